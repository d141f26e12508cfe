"""The way from modules to the fused operator: their weights, their batch-norms, their updates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops import resolve
from ..ops.channels import Sampling, channel_tables
from ..ops.conv_bn import conv_bn
from ..ops.dense import DTYPES
from ..ops.mixed_cell import KINDS, MOST, CellGraph, mixed_cell
from ..ops.relu_conv_bn import linear_map, relu_conv_bn
from ..ops.update_running import update_running
from .operations import FactorizedReduce, ReLUConvBN


def is_fused(primitives: Sequence[str], states: int) -> bool:
    """Whether the engines have all these candidate operations, and room for the graph."""
    return set(primitives) <= set(KINDS) and len(primitives) <= MOST and states <= MOST


def engine(backend: str, x: Tensor) -> str:
    """The backend that runs a fused cell on x; "auto" leaves foreign dtypes to the reference."""
    chosen: str = resolve(backend, "mixed_cell", x.device.type)
    return "reference" if backend == "auto" and x.dtype not in DTYPES[chosen] else chosen


def preprocess(module: ReLUConvBN | FactorizedReduce, x: Tensor, backend: str) -> Tensor:
    """A cell's preprocessing [B, C_in, H, W] -> [B, C, H', W'] as one operator."""
    halves = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    stride = len(halves)
    odd = stride == 2 and (x.shape[2] % 2 or x.shape[3] % 2)
    if backend == "reference" or odd:
        return module(x)  # type: ignore[no-any-return]
    out, mean, variance = relu_conv_bn(
        x,
        [convolution.weight for convolution in halves],
        stride=stride,
        eps=norm.eps,
        running=None if module.training else running_of(norm, x.dtype),
        backend=backend,
    )
    if module.training:
        advance([norm], mean[None], variance[None], out.numel() // out.shape[1], backend)
    return out


def run_stem(stem: nn.Sequential, x: Tensor, backend: str) -> Tensor:
    """The CIFAR stem, images [B, C_in, H, W] -> [B, C, H, W], of which only the images are kept."""
    if backend == "reference":
        return stem(x)  # type: ignore[no-any-return]
    convolution, norm = stem
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    out, mean, variance = conv_bn(
        x,
        convolution.weight,
        norm.weight,
        norm.bias,
        eps=norm.eps,
        running=None if stem.training else running_of(norm, x.dtype),
        backend=backend,
    )
    if stem.training:
        advance([norm], mean[None], variance[None], out.numel() // out.shape[1], backend)
    return out


def classify(classifier: nn.Linear, features: Tensor, backend: str) -> Tensor:
    """Features [B, C] -> logits [B, num_classes]."""
    if backend == "reference":
        return classifier(features)  # type: ignore[no-any-return]
    return linear_map(features, classifier.weight, backend=backend) + classifier.bias


class FusedGraph:
    """Runs candidate operations that stay ordinary modules, with their state_dict, as one operator.

    `edges` holds the candidate operations of every edge, in the order of alpha's rows.
    """

    def __init__(
        self, edges: Sequence[nn.ModuleList], graph: CellGraph, C: int, sampling: Sampling
    ) -> None:
        leaves = [m for operations in edges for m in operations.modules()]
        self.convolutions = [m for m in leaves if isinstance(m, nn.Conv2d)]
        self.norms = [m for m in leaves if isinstance(m, nn.BatchNorm2d)]
        self.graph, self.sampling = graph, sampling
        self.tables = channel_tables(
            C, graph.k, sampling, range(C) if sampling == "random" else None
        )

    def __call__(
        self,
        inputs: Sequence[Tensor],
        alpha: Tensor,
        beta: Tensor,
        *,
        backend: str,
        permutation: Sequence[int] | None,
        training: bool,
    ) -> Tensor:
        """inputs [B, C, H, W], alpha [edges, P], beta [edges] -> nodes [B, nodes * C, H', W']."""
        x = inputs[0]
        tables = self.tables
        if permutation is not None:
            tables = channel_tables(x.shape[1], self.graph.k, self.sampling, permutation)
        out, mean, variance = mixed_cell(
            inputs,
            alpha,
            beta,
            [convolution.weight for convolution in self.convolutions],
            graph=self.graph,
            tables=tables,
            running=None if training else self._running(x),
            backend=backend,
        )
        if training and self.norms:
            count = x.shape[0] * x.shape[2] * x.shape[3] // self.graph.stride**2
            advance(self.norms, mean, variance, count, backend)
        return out

    def _running(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Every batch-norm's running mean and variance, [norms, C/k]."""
        pairs = [running_of(norm, x.dtype) for norm in self.norms]
        if not pairs:
            empty = x.new_empty(0, dtype=torch.promote_types(x.dtype, torch.float32))
            return empty, empty
        means, variances = zip(*pairs, strict=True)
        return torch.stack(means), torch.stack(variances)


def running_of(norm: nn.BatchNorm2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Running mean and variance [C], in the type that states of `dtype` accumulate in."""
    wide = torch.promote_types(dtype, torch.float32)
    return buffer(norm, "running_mean").to(wide), buffer(norm, "running_var").to(wide)


def advance(
    norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: int, backend: str
) -> None:
    """Moves the running statistics of N batch-norms by the batch's own, [N, C]."""
    momentum = norms[0].momentum
    assert momentum is not None
    update_running(
        [buffer(norm, "running_mean") for norm in norms],
        [buffer(norm, "running_var") for norm in norms],
        [buffer(norm, "num_batches_tracked") for norm in norms],
        mean,
        variance,
        count=count,
        momentum=momentum,
        backend=backend,
    )


def buffer(norm: nn.BatchNorm2d, name: str) -> Tensor:
    tensor = norm._buffers[name]  # a hundred of them a cell: attribute look-up is the slow way
    assert tensor is not None
    return tensor
