"""A run that a signal has stopped, and how to go on with it."""

from __future__ import annotations


class Interrupted(Exception):
    """Its text is for the user: what has happened, and the command to go on with.

    `exit_code` is 128 plus the signal's number.
    """

    def __init__(self, number: int, what: str, go_on: str) -> None:
        super().__init__(f"{what}; go on with: {go_on}")
        self.exit_code = 128 + number
