"""The one exception that means: what the user gave cannot be used, and here is what to do."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """One sentence for a person: what, where, got, wanted, what to do.

    The command line prints it and exits with code 2; in Python it is a `ValueError`.
    """


def check_choice(name: str, got: str, wanted: Sequence[str]) -> None:
    """Raises UserError where the argument `name` is none of `wanted`."""
    if got not in wanted:
        raise UserError(f"{name}: got {got!r}, wanted one of {', '.join(wanted)}")
