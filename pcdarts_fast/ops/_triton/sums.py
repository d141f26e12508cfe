"""The second stage of a sum: partial results added up in one fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch, power_of_2

COLUMNS = 64  # of a program


@triton.jit(do_not_specialize=["rows", "elements"])
def column_sums_kernel(partial, total, rows, elements, BLOCK: tl.constexpr, P: tl.constexpr):
    """total [elements] = sum over rows of partial [rows, elements]."""
    column = tl.program_id(0) * P + tl.arange(0, P)
    acc = tl.zeros((BLOCK, P), tl.float32)
    for first in range(0, rows, BLOCK):
        row = first + tl.arange(0, BLOCK)
        at = row[:, None].to(tl.int64) * elements + column[None, :]
        valid = (row[:, None] < rows) & (column[None, :] < elements)
        acc += tl.load(partial + at, valid, other=0.0)
    tl.store(total + column, tl.sum(acc, 0), column < elements)


def column_sums(partial: Tensor) -> Tensor:
    """[elements] from [rows, elements]."""
    rows, elements = partial.shape
    total = partial.new_empty(elements)
    launch(
        column_sums_kernel,
        (-(-elements // COLUMNS),),
        *(partial, total, rows, elements),
        BLOCK=min(32, power_of_2(rows)),
        P=COLUMNS,
    )
    return total


def weight_gradients(partial: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The column sums of partial [rows, elements of all weights], in the shapes of the weights."""
    return list(torch._C._nn.unflatten_dense_tensors(column_sums(partial), list(weights)))
