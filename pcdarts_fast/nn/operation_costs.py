"""What one operation of a genotype costs, over all cells of the derived network that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..space import CELLS
from .count import Cost, count
from .derived import DerivedCell, DerivedNetwork
from .operations import make_operation

NOTHING = Cost(0, 0, 0)


def operation_costs(
    network: DerivedNetwork, image: tuple[int, int, int], primitives: Sequence[str]
) -> dict[tuple[str, str, bool], Cost]:
    """By cell ("normal", "reduce"), primitive, and whether its edge leaves an input of the cell.

    `network`, on the meta device, tells the sizes of its cells for one image of shape (channels,
    height, width); its own operations do not matter. The costs of a genotype's operations add up:
    with those of a network of `none` alone they are what `count` finds.
    """
    states: list[tuple[DerivedCell, tuple[int, ...]]] = []  # with [B, C, H, W] of its inputs
    for cell in network.cells:
        assert isinstance(cell, DerivedCell)

        def note(_: nn.Module, inputs: Any, out: Tensor, cell: DerivedCell = cell) -> None:
            states.append((cell, tuple(out.shape)))

        cell.preprocess1.register_forward_hook(note)
    with torch.no_grad():
        network(torch.empty(2, *image, device="meta"))

    measured: dict[tuple[Any, ...], Cost] = {}
    total: dict[tuple[str, str, bool], Cost] = {
        (kind, primitive, from_input): NOTHING
        for kind in CELLS
        for primitive in primitives
        for from_input in (True, False)
    }
    for cell, (_, C, H, W) in states:
        for primitive in primitives:
            for from_input in (True, False):
                stride = 2 if cell.reduction and from_input else 1
                size = (H, W) if from_input or not cell.reduction else (-(-H // 2), -(-W // 2))
                key = primitive, stride, C, size
                if key not in measured:
                    with torch.device("meta"):
                        operation = make_operation(primitive, C, stride, affine=True)
                    measured[key] = count(operation, (C, *size))
                place = "reduce" if cell.reduction else "normal", primitive, from_input
                total[place] = total[place] + measured[key]
    return total
