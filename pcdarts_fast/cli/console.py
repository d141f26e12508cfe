"""Where commands print."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, quiet: bool = False, highlight: bool = True) -> Console:
    """Prints text as it is: a path may hold what rich takes for markup or for an emoji's name."""
    return Console(quiet=quiet, highlight=highlight, markup=False, emoji=False)
