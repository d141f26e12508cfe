"""A range of seeds as an option."""

from __future__ import annotations

import re

from ..errors import UserError


def parse_seeds(text: str) -> range:
    """The seeds of "0..4": 0, 1, 2, 3, 4.

    Raises:
        UserError: `text` is no such range.
    """
    match = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", text, re.ASCII)
    if not match or int(match[1]) > int(match[2]):
        raise UserError(f"--seeds is {text!r}, wanted FIRST..LAST such as 0..4")
    return range(int(match[1]), int(match[2]) + 1)
