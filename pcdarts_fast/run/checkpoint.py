"""One checkpoint an epoch, the one before kept beside it, and every random generator's state."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..errors import UserError
from .files import write_atomically, writing
from .folder import RunFolder


def save_checkpoint(folder: RunFolder, state: dict[str, Any]) -> None:
    """Writes `state` to checkpoint.pt; the checkpoint before becomes checkpoint.previous.pt.

    `state` holds tensors, numbers, strings and containers of them only (it is read back with
    `weights_only=True`); `state["epoch"]` is the number of epochs done.

    Raises:
        UserError: it cannot be written; the newest checkpoint that was whole is still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    staged = folder.path / "checkpoint.next.pt"
    write_atomically(staged, buffer.getvalue())
    with writing(folder.checkpoint):
        if folder.checkpoint.exists():
            os.replace(folder.checkpoint, folder.previous_checkpoint)
        os.replace(staged, folder.checkpoint)


def load_checkpoint(folder: RunFolder) -> tuple[dict[str, Any] | None, str | None]:
    """The newest whole checkpoint, on the CPU, and a sentence when it is not the newest file.

    (None, None) when the run was stopped before its first checkpoint.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    faults = []
    for path in (folder.checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        try:
            state = _read(path)
        except UserError as error:
            faults.append(str(error))
            continue
        note = f"{faults[0]}; going on from {path.name}, epoch {state['epoch']}" if faults else None
        return state, note
    if faults:
        raise UserError(
            f"{faults[0]}, and no older one is whole; start again in another --output-dir"
        )
    return None, None


def _read(path: Path) -> dict[str, Any]:
    try:
        # torch.load does not look at the checksums of the archive.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state["epoch"]
    except (zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError, KeyError):
        raise UserError(f"checkpoint {path} is truncated or damaged") from None
    return dict(state)


def random_state() -> dict[str, Any]:
    """The state of every random generator of the process, in types that a checkpoint may hold."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """The inverse of `random_state`. GPUs that the checkpoint's machine lacked keep their state."""
    torch.set_rng_state(state["torch"])
    for device, cuda_state in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda_state, device)
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
