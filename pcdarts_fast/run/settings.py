"""Settings on disk: a flat dataclass as plain YAML, read back by `yaml.safe_load` alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_origin

import yaml

from ..errors import UserError
from ..files import write_atomically
from .ranges import option, types_of


class Settings(Protocol):
    """A dataclass whose fields are numbers, strings, paths, tuples of those, or None."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


S = TypeVar("S", bound=Settings)


def save_settings(settings: Settings, path: Path) -> None:
    """Writes `settings` to `path`, field by field in their order."""
    plain = {name: _to_plain(value) for name, value in asdict(settings).items()}
    write_atomically(path, yaml.safe_dump(plain, sort_keys=False).encode())


def load_settings(kind: type[S], path: Path) -> S:
    """The settings that `save_settings` wrote.

    Raises:
        UserError: `path` is unreadable, or a field is missing, unknown or of the wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    # Its constructors raise what Python does for numbers and dates that are none.
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as e:
        raise UserError(f"settings {path} cannot be read: {str(e).splitlines()[0]}") from None
    types = {field.name: types_of(kind)[field.name] for field in fields(kind)}
    if not isinstance(values, dict):
        raise UserError(f"settings {path} are damaged: wanted a line for each, as name: value")
    if odd := ", ".join(sorted(map(str, set(types) ^ set(values)))):
        raise UserError(f"settings {path} do not fit this version: missing or unknown {odd}")
    return kind(**{name: _from_plain(path, name, values[name], types[name]) for name in types})


def check_unchanged(saved: S, settings: S, may_change: Collection[str]) -> None:
    """A resumed run goes on with the settings that it began with.

    Raises:
        UserError: a field outside `may_change` differs.
    """
    for field in fields(settings):
        before, now = getattr(saved, field.name), getattr(settings, field.name)
        if before != now and field.name not in may_change:
            raise UserError(
                f"{option(field.name)} is {now}, but the run to resume has {before}; "
                "keep that, or start anew in another --output-dir"
            )


def _to_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _from_plain(path: Path, name: str, value: Any, wanted: Any) -> Any:
    if type(value) is int and abs(value) >= 2**64:  # Python has no text of the largest
        raise UserError(f"settings {path}: {name} is too large")
    kinds = get_args(wanted) if get_origin(wanted) is UnionType else (wanted,)
    for kind in kinds:
        if get_origin(kind) is tuple and isinstance(value, list):
            return tuple(_from_plain(path, name, item, get_args(kind)[0]) for item in value)
        if kind is Path and isinstance(value, str):
            return Path(value)
        if kind is float and type(value) is int:
            return float(value)
        if value in get_args(kind) or (isinstance(kind, type) and type(value) is kind):
            return value
    raise UserError(f"settings {path}: {name} is {value!r}, wanted {_called(wanted)}")


def _called(wanted: Any) -> str:
    """`int` and `int | None` as they are written."""
    return wanted.__name__ if isinstance(wanted, type) else str(wanted)
