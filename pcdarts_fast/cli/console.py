"""Where commands print."""

from __future__ import annotations

from contextlib import suppress

from rich.console import Console


class _Plain(Console):
    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # rich lets go of stdout, and would end in silence
            super().on_broken_pipe()
        raise BrokenPipeError


def plain_console(*, quiet: bool = False) -> Console:
    """Prints text as it is: a path may hold what rich takes for markup or for an emoji's name."""
    return _Plain(quiet=quiet, highlight=False, markup=False, emoji=False)


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """Prints lines that the terminal wraps, if at all: a path or a command stays one to copy."""
    console.print(text, style=style, highlight=False, soft_wrap=True)
