"""A run that a signal has stopped, and how to go on with it."""

from __future__ import annotations


class Interrupted(Exception):
    """Its text is for the user; `exit_code` is 128 plus the signal's number."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code
