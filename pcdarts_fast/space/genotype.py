"""A genotype: the discrete architecture that a search ends in. JSON on disk, never `eval()`."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, did_you_mean
from ..files import write_atomically
from .primitives import CELL_INPUTS, CELLS

Cell = tuple[tuple[str, int], ...]
"""(primitive, source state) of every kept edge; two per node, node by node."""


@dataclass(frozen=True)
class Genotype:
    """The two cells of a network and the states each concatenates.

    Raises:
        UserError: a cell that is no list of (primitive, earlier state) pairs, two per node.
    """

    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in CELLS:
            cell = _checked_cell(name, getattr(self, name))
            states = CELL_INPUTS + len(cell) // 2
            concat = _checked_concat(f"{name}_concat", getattr(self, f"{name}_concat"), states)
            object.__setattr__(self, name, cell)
            object.__setattr__(self, f"{name}_concat", concat)

    def to_json(self) -> str:
        """One line per node, so that two genotypes compare well in a diff."""
        fields = asdict(self)
        return "{\n" + ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in fields.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """From what `to_json` writes, or what the published code prints.

        Raises:
            UserError: `text` is no genotype.
        """
        try:
            fields: Any = json.loads(_as_json(text))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"genotype: not valid JSON ({error}); wanted what a search writes, "
                "or the published form Genotype(normal=[...], ...)"
            ) from None
        wanted = tuple(cls.__dataclass_fields__)
        if not isinstance(fields, dict) or set(fields) != set(wanted):
            got = ", ".join(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
            raise UserError(f"genotype: got {got or 'nothing'}, wanted {', '.join(wanted)}")
        return cls(**fields)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Genotype:
        """A published genotype by name, or one from a JSON file or the folder of a run.

        Raises:
            UserError: neither a published name nor a readable genotype file.
        """
        from .published import PUBLISHED

        if name_or_path in PUBLISHED:
            return PUBLISHED[str(name_or_path)]
        path = genotype_file(Path(name_or_path))
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if path != Path(name_or_path):
                raise UserError(
                    f"genotype {name_or_path}: no {path.name} in this folder; a search writes one "
                    "after every epoch"
                ) from None
            raise UserError(
                f"genotype {path}: no such file, and no published genotype of that name"
                f"{did_you_mean(str(name_or_path), PUBLISHED, 0.5)}; "
                f"published: {', '.join(PUBLISHED)}"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"genotype {path}: cannot be read ({error})") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON so that `path` always holds one whole genotype, the old or the new.

        Raises:
            UserError: `path` cannot be written.
        """
        write_atomically(Path(path), self.to_json().encode())


def genotype_file(path: Path) -> Path:
    """`path`, or the genotype in it where it is the folder of a run."""
    return path / "genotype.json" if path.is_dir() else path


def _as_json(text: str) -> str:
    """A genotype as the published code prints it, `Genotype(normal=[('skip_connect', 0), ...`, as
    JSON; any other text as it is.
    """
    printed = re.fullmatch(r"\s*(?:\w+\s*=\s*)?Genotype\((.*)\)\s*", text, re.DOTALL)
    if not printed:
        return text
    values = re.sub(
        r"range\((\d{1,2}), *(\d{1,2})\)",
        lambda ends: str(list(range(int(ends[1]), int(ends[2])))),
        printed[1],
    )
    values = values.translate(str.maketrans("()'", '[]"'))
    values = re.sub(r"\b(\w+) *=", r'"\1":', values)
    return "{" + re.sub(r",(\s*(?:\]|$))", r"\1", values) + "}"


def _checked_cell(name: str, cell: object) -> Cell:
    if not isinstance(cell, (list, tuple)) or not cell or len(cell) % 2:
        raise UserError(f"genotype: {name} is {cell!r:.80}, wanted a list of two edges per node")
    for number, edge in enumerate(cell):
        node = CELL_INPUTS + number // 2
        match edge:
            case (str(primitive), int(source)) if 0 <= source < node:
                if primitive and primitive.isprintable():
                    continue
        raise UserError(
            f"genotype: {name}[{number}] is {edge!r:.80}, "
            f"wanted [primitive, source] with 0 <= source < {node}"
        )
    return tuple((primitive, int(source)) for primitive, source in cell)


def _checked_concat(name: str, concat: object, states: int) -> tuple[int, ...]:
    valid = isinstance(concat, (list, tuple, range)) and len(concat) > 0
    if not valid or any(type(s) is not int or not 0 <= s < states for s in concat):  # type: ignore[attr-defined]
        raise UserError(f"genotype: {name} is {concat!r:.80}, wanted states below {states}")
    return tuple(concat)  # type: ignore[arg-type]
