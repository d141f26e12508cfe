"""The one place where kernels are launched, and the sizes that programs work on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


WARP = 32


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, P: int, **constants: Any) -> None:
    """Runs a kernel that works on P pixels, one a thread, on the grid; nothing where it is empty."""
    if 0 not in grid:
        kernel[grid](*arguments, P=P, num_warps=max(P // WARP, 1), **constants)


def tile_of(channels: int) -> int:
    """Pixels of a program whose threads keep a few columns [channels] in registers."""
    return 256 if channels <= 8 else 128 if channels <= 16 else 64


def power_of_2(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def channel_table(source: Sequence[int], destination: Sequence[int], device: torch.device) -> Tensor:
    """Both tables [2, C], int32, on the device.

    Tables of a fixed sampling are copied there once. Those of a random one change with every call;
    their copy does not wait.
    """
    tables = tuple(source), tuple(destination)
    if tables[0] == tuple(range(len(source))):
        return _kept_table(*tables, device)
    return _table(*tables, device)


def _table(source: tuple[int, ...], destination: tuple[int, ...], device: torch.device) -> Tensor:
    table = torch.tensor([source, destination], dtype=torch.int32)
    if device.type != "cuda":
        return table.to(device)
    return table.pin_memory().to(device, non_blocking=True)


_kept_table = functools.cache(_table)
