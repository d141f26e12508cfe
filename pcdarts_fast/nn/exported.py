"""A trained network in one file without any code in it: safetensors, with what it takes to build.

The auxiliary head, which only training uses, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save

from ..errors import UserError
from ..space import Genotype
from .derived import DerivedNetwork

ARGUMENTS = {"C": int, "num_classes": int, "layers": int, "in_channels": int, "stem": str}
"""Of `DerivedNetwork`, beside the genotype: names and types in the file's metadata."""


@dataclass(frozen=True)
class TrainedOn:
    """What the numbers that go into a trained network and come out of it mean."""

    mean: tuple[float, ...]
    """Per channel, of images in [0, 1]; it is taken off."""
    std: tuple[float, ...]
    """Per channel, of images in [0, 1]; they are divided by it."""
    classes: tuple[str, ...]
    """Names, in the order of the logits; empty: there are none."""
    image_size: int | None = None
    """Side in pixels; None: not known."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def export(
    network: DerivedNetwork,
    genotype: Genotype,
    trained_on: TrainedOn | None = None,
    **arguments: int | str,
) -> bytes:
    """The content of a weights.safetensors; `arguments` are those that built `network`."""
    state = {
        name: value.contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("auxiliary_head.")
    }
    metadata = {"genotype": genotype.to_json(), "network": json.dumps(arguments)}
    if trained_on:
        metadata["trained_on"] = trained_on.to_json()
    return _in_order(save(state, metadata=metadata))


def _in_order(content: bytes) -> bytes:
    """Equal networks are equal files: safetensors writes metadata in an order of its own each time.

    A file is the size of a header, in 8 bytes, the header, as JSON, and the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_network(path: str | Path) -> DerivedNetwork:
    """The network that `pcdarts train` left in a weights.safetensors, on the CPU, in eval mode.

    Raises:
        UserError: the file is missing, damaged, or holds no such network.
    """
    genotype, arguments, _ = read_metadata(path)
    with _reading(path):
        state = load_file(path)
    network = DerivedNetwork(genotype=genotype, **arguments)
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"weights {path} do not fit the network that they describe") from None
    return network.eval()


def read_metadata(path: str | Path) -> tuple[Genotype, dict[str, Any], TrainedOn | None]:
    """The genotype, the other arguments, and the data of the network in a weights.safetensors.

    Raises:
        UserError: as `load_network`.
    """
    if Path(path).is_dir():
        raise UserError(f"weights {path}: a folder; name the weights.safetensors in it")
    with _reading(path), safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if set(metadata) - {"trained_on"} != {"genotype", "network"}:
        raise UserError(f"weights {path} are not of pcdarts train: genotype or network is missing")
    arguments = _arguments(path, metadata["network"])
    trained_on = _trained_on(path, metadata.get("trained_on"), arguments)
    return Genotype.from_json(metadata["genotype"]), arguments, trained_on


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"weights {path} cannot be read: {error}") from None


def _arguments(path: str | Path, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or {n: type(v) for n, v in values.items()} != ARGUMENTS:
        raise UserError(f"weights {path}: network is {text!r:.80}, wanted {', '.join(ARGUMENTS)}")
    return values


def _trained_on(path: str | Path, text: str | None, arguments: dict[str, Any]) -> TrainedOn | None:
    if text is None:  # weights of a data set that nobody described
        return None
    try:
        fields = json.loads(text)
        size = fields.pop("image_size", None)
        found = TrainedOn(**{name: tuple(value) for name, value in fields.items()}, image_size=size)
        numbers = (*found.mean, *found.std)
        sound = (
            len(found.mean) == len(found.std) == arguments["in_channels"]
            and len(found.classes) in (0, arguments["num_classes"])
            and all(type(value) in (int, float) and abs(value) < 1e30 for value in numbers)
            and all(type(name) is str for name in found.classes)
            and (size is None or (type(size) is int and size > 0))
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise UserError(
            f"weights {path}: trained_on is {text!r:.80}, wanted mean, std, classes and image_size"
        )
    return found
