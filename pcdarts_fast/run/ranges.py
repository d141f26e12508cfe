"""Settings that cannot be, named by their options."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import UserError, check_choice

Range = tuple[Callable[[Any], bool], str]
"""Whether a number is in it, and how it is called."""

POSITIVE: Range = (lambda value: value > 0, "more than 0")
NOT_NEGATIVE: Range = (lambda value: value >= 0, "0 or more")
FRACTION: Range = (lambda value: 0 <= value < 1, "at least 0 and below 1")
COUNT: Range = (lambda value: value >= 1, "1 or more")
BATCH: Range = (lambda value: value >= 2, "2 or more: batch-norm needs two images")
SEED: Range = (lambda value: 0 <= value < 2**63, "0 or more and below 2 ** 63")


def option(name: str) -> str:
    """How the command line calls a setting."""
    return "--" + name.replace("_", "-")


def check_range(settings: Any, names: Iterable[str], within: Range) -> None:
    """Raises UserError for the first of the settings that is a number out of the range."""
    fits, wanted = within
    for name in names:
        value = getattr(settings, name)
        if value is not None and not fits(value):
            raise UserError(f"{option(name)} is {value}, wanted {wanted}")


@cache
def types_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields. Kept: a command makes a dozen settings, and evaluating the
    annotations of one takes 0.6 ms (2-core EPYC).
    """
    return get_type_hints(kind)


def check_choices(settings: Any) -> None:
    """Raises UserError for the first of the settings that is none of its type's literals."""
    for name, kind in types_of(settings.__class__).items():
        if get_origin(kind) is Literal:
            check_choice(option(name), getattr(settings, name), get_args(kind))
