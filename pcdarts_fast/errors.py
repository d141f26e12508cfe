"""The one exception that means: what the user gave cannot be used, and here is what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches


class UserError(ValueError):
    """One sentence for a person: what, where, got, wanted, what to do.

    The command line prints it and exits with code 2; in Python it is a `ValueError`.
    """


def check_choice(name: str, got: str, wanted: Sequence[str]) -> None:
    """Raises UserError where the argument `name` is none of `wanted`."""
    if got not in wanted:
        raise UserError(f"{name}: got {got!r}, wanted one of {', '.join(wanted)}")


def check_known(what: str, name: str, known: Collection[str]) -> None:
    """Raises UserError where nothing that is `known` has this name."""
    if name not in known:
        raise UserError(f"unknown {what} {name!r}; wanted one of {', '.join(known)}")


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """For the middle of a sentence: what `name` may be a slip of the pen for, or nothing."""
    close = get_close_matches(name, known, 1, cutoff)
    return f" (did you mean {close[0]}?)" if close else ""
