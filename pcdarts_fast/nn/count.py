"""Parameters and multiply-adds of any network, read off one forward on the meta device."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """What a network holds and what it computes for one image.

    Attributes:
        parameters: number of scalars in them, frozen ones too.
        multiply_adds: of convolutions and linear layers (the usual convention).
        multiply_adds_published: the convention behind the numbers in the DARTS family of papers,
            which adds two for every element out of a batch-norm and one out of a ReLU.
    """

    parameters: int
    multiply_adds: int
    multiply_adds_published: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.multiply_adds_published + other.multiply_adds_published,
        )


def _products(module: nn.Module, out: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return out.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return out.numel() * module.in_features
    return 0


def _elementwise(module: nn.Module, out: Tensor) -> int:
    if isinstance(module, nn.BatchNorm2d):
        return 2 * out.numel()
    if isinstance(module, nn.ReLU):
        return out.numel()
    return 0


def count(module: nn.Module, image: tuple[int, int, int]) -> Cost:
    """The cost of `module` for one image of shape (channels, height, width).

    A network in training mode is counted with the work of its auxiliary head, one in eval mode
    without. Layers are found as modules (Conv2d, Linear, BatchNorm2d, ReLU); work done outside of
    those is not seen. The module itself is left as it is, and nothing is computed.
    """
    # The smallest batch that batch-norm in training mode takes on 1x1 maps.
    B = 2
    meta = copy.deepcopy(module).to("meta")
    products = elementwise = 0

    def add(layer: nn.Module, _inputs: Any, out: Tensor) -> None:
        nonlocal products, elementwise
        products += _products(layer, out)
        elementwise += _elementwise(layer, out)

    for layer in meta.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU)):
            layer.register_forward_hook(add)
    with torch.no_grad():
        meta(torch.empty(B, *image, device="meta"))
    parameters = sum(p.numel() for p in meta.parameters())
    return Cost(parameters, products // B, (products + elementwise) // B)
