"""The network derived from a genotype, to be trained from scratch (paper section 4.1).

Parameter names are those of the published evaluation networks, so that their checkpoints load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError, check_choice
from ..space import CELL_INPUTS, Genotype, reductions
from .operations import FactorizedReduce, Identity, ReLUConvBN, make_operation
from .stem import Stem, cifar_stem, imagenet_stems


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zeroes each sample of `x` [B, C, H, W] with `probability`; the others grow by 1 / keep."""
    keep = 1.0 - probability
    mask = torch.empty(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(keep)
    return x * (mask / keep)


class DerivedCell(nn.Module):
    """One cell of a genotype: each node sums two operations, the output concatenates nodes.

    Forward takes the outputs of the two cells before, [B, C_before, H', W'] (H' = 2 H behind a
    reduction) and [B, C_previous, H, W], and returns [B, out_channels, H / stride, W / stride].
    """

    def __init__(
        self,
        edges: Sequence[tuple[str, int]],
        concat: Sequence[int],
        *,
        C_before: int,
        C_previous: int,
        C: int,
        reduction: bool,
        reduction_before: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        if reduction_before:
            self.preprocess0: nn.Module = FactorizedReduce(C_before, C)
        else:
            self.preprocess0 = ReLUConvBN(C_before, C)
        self.preprocess1 = ReLUConvBN(C_previous, C)
        self.sources = [source for _, source in edges]
        self.concat = list(concat)
        self._ops = nn.ModuleList(
            make_operation(
                primitive, C, 2 if reduction and source < CELL_INPUTS else 1, affine=True
            )
            for primitive, source in edges
        )
        self.out_channels = C * len(self.concat)

    def forward(self, s0: Tensor, s1: Tensor, drop_path_prob: float) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        terms: list[Tensor] = []
        for op, source in zip(self._ops, self.sources, strict=True):
            term = op(states[source])
            if self.training and drop_path_prob > 0 and not isinstance(op, Identity):
                term = drop_path(term, drop_path_prob)
            terms.append(term)
            if len(terms) == 2:
                states.append(terms[0] + terms[1])
                terms.clear()
        return torch.cat([states[i] for i in self.concat], dim=1)


class TwoByTwoPool(nn.Module):
    """Average pooling to 2x2 by two overlapping windows along each side.

    On the 8x8 maps of CIFAR and the 7x7 maps of ImageNet the window is 5x5, as it was published.
    """

    def forward(self, x: Tensor) -> Tensor:
        B, C, *sides = x.shape
        sides = [max(2, side) for side in sides]
        strides = [max(1, (side - 2) // 2) for side in sides]
        windows = [side - stride for side, stride in zip(sides, strides, strict=True)]
        return F.avg_pool2d(x.expand(B, C, *sides), windows, strides)


class AuxiliaryHead(nn.Module):
    """A classifier behind the second reduction: [B, C, H, W] -> [B, num_classes], any H and W."""

    def __init__(self, C: int, num_classes: int, stem: Stem) -> None:
        super().__init__()
        # The ImageNet head of the published code has no batch-norm behind its second convolution.
        last = [nn.BatchNorm2d(768), nn.ReLU()] if stem == "cifar" else [nn.ReLU()]
        self.features = nn.Sequential(
            nn.ReLU(),
            TwoByTwoPool(),
            nn.Conv2d(C, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *last,
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]


class DerivedNetwork(nn.Module):
    """A stack of the genotype's cells with reductions at one third and at two thirds of the depth.

    Args:
        C: channels of the first cell; they double at each reduction.
        num_classes: size of the output.
        layers: number of cells.
        genotype: the cells.
        auxiliary: adds a second classifier behind the second reduction, which helps training only.
        stem: "cifar" keeps the resolution, "imagenet" divides it by eight (224 -> 28).
        in_channels: channels of the images.

    Attributes:
        drop_path_prob: probability to drop the output of an operation (other than the identity)
            for a sample while training; the training loop raises it.

    Raises:
        UserError: an argument out of its range, an unknown primitive, or a reduction cell that
            concatenates its inputs.
    """

    def __init__(
        self,
        C: int,
        num_classes: int,
        layers: int,
        genotype: Genotype,
        *,
        auxiliary: bool = False,
        stem: Stem = "cifar",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_choice("stem", stem, get_args(Stem))
        if min(C - (stem == "imagenet"), num_classes, layers) < 1:
            raise UserError(
                f"C, num_classes, layers: got {C}, {num_classes}, {layers}, wanted >= 1, "
                "and C >= 2 for the imagenet stem"
            )
        if min(genotype.reduce_concat) < CELL_INPUTS:
            raise UserError(
                f"reduce_concat: got {list(genotype.reduce_concat)}, wanted nodes only "
                f"(from {CELL_INPUTS}): the inputs of a reduction cell are twice as large"
            )
        self.drop_path_prob = 0.0
        self.stem_kind = stem
        if stem == "cifar":
            C_stem = 3 * C
            self.stem = cifar_stem(in_channels, C_stem)
        else:
            C_stem = C
            self.stem0, self.stem1 = imagenet_stems(in_channels, C_stem)

        self.auxiliary_layer = max(reductions(layers))
        self.cells = nn.ModuleList()
        channels = [C_stem, C_stem]
        reduction_before = stem == "imagenet"
        for layer in range(layers):
            reduction = layer in reductions(layers)
            C = 2 * C if reduction else C
            cell = DerivedCell(
                genotype.reduce if reduction else genotype.normal,
                genotype.reduce_concat if reduction else genotype.normal_concat,
                C_before=channels[-2],
                C_previous=channels[-1],
                C=C,
                reduction=reduction,
                reduction_before=reduction_before,
            )
            self.cells.append(cell)
            channels.append(cell.out_channels)
            reduction_before = reduction

        self.auxiliary_head = (
            AuxiliaryHead(channels[2 + self.auxiliary_layer], num_classes, stem)
            if auxiliary
            else None
        )
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images [B, in_channels, H, W] to logits [B, num_classes], also of the auxiliary head.

        The second item is None in eval mode and in a network built without the auxiliary head.
        """
        if self.stem_kind == "cifar":
            s0 = s1 = self.stem(x)
        else:
            s0 = self.stem0(x)
            s1 = self.stem1(s0)
        logits_aux = None
        for layer, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path_prob)
            if layer == self.auxiliary_layer and self.auxiliary_head is not None and self.training:
                logits_aux = self.auxiliary_head(s1)
        return self.classifier(self.global_pooling(s1).flatten(1)), logits_aux
