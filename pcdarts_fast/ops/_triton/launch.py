"""The one place where kernels are launched, and the sizes that programs work on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

REGISTERS = {} if torch.version.hip else {"maxnreg": 255}  # ptxas spills a little to use fewer


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, P: int, warps: int = 0, **constants: Any
) -> None:
    """Runs a kernel that works on P pixels, by default one a thread; nothing on an empty grid."""
    if 0 not in grid:
        warps = warps or max(P // 32, 1)
        kernel[grid](*arguments, P=P, num_warps=warps, num_stages=1, **REGISTERS, **constants)


def tile_of(channels: int) -> tuple[int, int]:
    """Pixels and warps of a program whose threads keep a few columns [channels] in registers."""
    return (256, 8) if channels <= 8 else (128, 4) if channels <= 16 else (64, 8)


def power_of_2(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def channel_table(
    source: Sequence[int], destination: Sequence[int], device: torch.device
) -> Tensor:
    """Both tables [2, C], int32, on the device.

    Tables of a fixed sampling are copied there once. Those of a random one change with every call;
    their copy does not wait.
    """
    tables = tuple(source), tuple(destination)
    if tables[0] == tuple(range(len(source))):
        return _kept_table(*tables, device)  # waits: other streams will read it
    return _table(*tables, device)


def _table(source: tuple[int, ...], destination: tuple[int, ...], device: torch.device) -> Tensor:
    table = torch.tensor([source, destination], dtype=torch.int32)
    if device.type != "cuda":
        return table.to(device)
    return table.pin_memory().to(device, non_blocking=True)


@functools.cache
def _kept_table(
    source: tuple[int, ...], destination: tuple[int, ...], device: torch.device
) -> Tensor:
    return torch.tensor([source, destination], dtype=torch.int32, device=device)
