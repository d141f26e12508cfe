"""The same computation with other numbers of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def with_threads(call: Callable[[], T]) -> list[T]:
    """What call() gives with 1, 2, 3 and 8 of torch's threads."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            found.append(call())
    finally:
        torch.set_num_threads(before)
    return found
