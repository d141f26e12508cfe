"""One checkpoint an epoch, or where a run was asked to stop; the one before is kept beside it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim import SGD, Adam, Optimizer

from ..errors import UserError
from ..files import write_atomically, writing
from .folder import RunFolder, read_lines


def save_checkpoint(folder: RunFolder, state: dict[str, Any]) -> None:
    """Writes `state` to checkpoint.pt; the checkpoint before becomes checkpoint.previous.pt.

    `state` holds tensors, numbers, strings and containers of them only (it is read back with
    `weights_only=True`); `state["epoch"]` is the number of epochs done.

    Raises:
        UserError: it cannot be written; the newest checkpoint that was whole is still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder.next_checkpoint, buffer.getvalue())
    with writing(folder.checkpoint):
        if folder.checkpoint.exists():
            os.replace(folder.checkpoint, folder.previous_checkpoint)
        os.replace(folder.next_checkpoint, folder.checkpoint)


def load_checkpoint(folder: RunFolder) -> tuple[dict[str, Any] | None, str | None]:
    """The newest whole checkpoint, on the CPU, and a sentence when it is not the newest file.

    (None, None) when the run was stopped before its first checkpoint.

    Raises:
        UserError: there are checkpoints, but none is whole; or they have been taken away.
    """
    faults = []
    for path in (folder.checkpoint, folder.next_checkpoint, folder.previous_checkpoint):
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
    epochs = len(read_lines(folder.metrics))
    if epochs:
        raise UserError(
            f"{folder.checkpoint} is missing, and without it the run would lose what it has done "
            f"({epochs} epoch{'s' * (epochs > 1)}); put it back, or start again in another "
            "--output-dir"
        )
    return None, None


def _read(path: Path) -> dict[str, Any]:
    try:
        # torch.load does not look at the checksums of the archive.
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
        state = torch.load(path, map_location="cpu", weights_only=True) if whole else {}
        epoch = state["epoch"]
    except Exception:  # what zip, unpickler and torch raise at damaged bytes has no common class
        epoch = None
    if type(epoch) is not int or epoch < 0:
        raise UserError(f"checkpoint {path} is truncated or damaged")
    return dict(state)


REMEMBERED = {SGD: {"momentum_buffer"}, Adam: {"step", "exp_avg", "exp_avg_sq"}}
"""What the optimizers of this package keep of every parameter that has had a gradient."""


def load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Takes over what `optimizer` remembers of its parameters; its settings stay its own.

    Raises:
        ValueError: `saved` is no state of such an optimizer of these parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in saved["state"].items():
        shapes = {name: () if name == "step" else parameters[number].shape for name in values}
        if set(values) != REMEMBERED[type(optimizer)] or any(
            values[name].shape != shapes[name] or not values[name].is_floating_point()
            for name in values
        ):
            raise ValueError(f"what an optimizer remembers of parameter {number} does not fit it")
    own = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own})


@contextmanager
def restoring() -> Iterator[None]:
    """Turns what goes wrong with the content of a whole checkpoint into a sentence."""
    try:
        yield
    except Exception as error:  # anything can be missing, or stand in the place of another
        cause = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(
            f"the checkpoint is none of this run ({cause:.120}); "
            "start again in another --output-dir"
        ) from None
