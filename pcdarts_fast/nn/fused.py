"""The way from modules to the fused operator: their weights, their batch-norms, their updates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops import device_type, direct, resolve
from ..ops.channels import Sampling, channel_tables
from ..ops.conv_bn import conv_bn
from ..ops.dense import DTYPES
from ..ops.mixed_cell import KINDS, MOST, CellGraph, mixed_cell
from ..ops.relu_conv_bn import linear_map, relu_conv_bn
from ..ops.update_running import update_running
from .operations import FactorizedReduce, ReLUConvBN, is_built_in
from .synchronized import sharing
from .watched import Watched, is_hooked


def is_fused(primitives: Sequence[str], states: int) -> bool:
    """Whether the engines have all these candidate operations, and room for the graph."""
    known = all(name in KINDS and is_built_in(name) for name in primitives)
    return known and len(primitives) <= MOST and states <= MOST


def engine(backend: str, x: Tensor) -> str:
    """The backend that runs a fused cell on x; "auto" leaves foreign dtypes to the reference, and
    what transforms or traces the function that is called.

    Raises:
        UserError: `backend` cannot run here.
    """
    if is_transformed():
        if backend not in ("auto", "reference"):
            raise UserError(
                f"backend {backend!r} has no rules for the transforms of torch.func, nor for "
                'torch.jit.trace and torch.onnx; take "auto" or "reference"'
            )
        return "reference"
    chosen: str = resolve(backend, "mixed_cell", device_type(x))
    return "reference" if backend == "auto" and x.dtype not in DTYPES[chosen] else chosen


def is_transformed() -> bool:
    """Whether torch.func, torch.jit.trace or torch.onnx calls, which know no operators of ours."""
    if torch.compiler.is_compiling():
        return bool(_is_traced_for_others())
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call, no-any-return]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_traced_for_others() -> bool:
    """Whether torch.compile traces a transform of torch.func, or torch.export for ONNX."""
    onnx = sys.modules.get("torch.onnx")  # which takes a second to import
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return transformed or (onnx is not None and bool(onnx.is_in_onnx_export()))


def run_preprocess(
    module: ReLUConvBN | FactorizedReduce, watched: Watched, x: Tensor, backend: str
) -> Tensor:
    """A cell's preprocessing, [B, C_in, H, W] -> [B, C, H/stride, W/stride], rounded up."""
    if not watched.runs_fused(backend, [module], module.training):
        return module(x)  # type: ignore[no-any-return]
    halves, (norm,) = watched.convolutions, watched.norms
    if (out := preprocess_directly(halves, norm, x, backend)) is not None:
        return out
    stride = len(halves)
    if stride == 2 and (x.shape[2] % 2 or x.shape[3] % 2):
        return module(x)  # type: ignore[no-any-return]
    operator = partial(relu_conv_bn, x, weights_of(halves), stride=stride)
    return normalised(operator, norm, backend)


def preprocess_directly(
    halves: list[nn.Conv2d], norm: nn.BatchNorm2d, x: Tensor, backend: str
) -> Tensor | None:
    """See `FusedGraph.directly`."""
    library, momentum = direct(backend), norm.momentum
    if library is None or not norm.training or type(momentum) is not float or sharing(norm) > 1:
        return None
    convolutions = [half._parameters for half in halves]
    out: Tensor | None = library.relu_conv_bn(x, convolutions, [norm._buffers], norm.eps, momentum)
    return out


def run_stem(stem: nn.Sequential, watched: Watched, x: Tensor, backend: str) -> Tensor:
    """The CIFAR stem, images [B, C_in, H, W] -> [B, C, H, W], of which only the images are kept."""
    if not watched.runs_fused(backend, [stem], stem.training):
        return stem(x)  # type: ignore[no-any-return]
    (convolution,), (norm,) = watched.convolutions, watched.norms
    operator = partial(conv_bn, x, convolution.weight, norm.weight, norm.bias)
    return normalised(operator, norm, backend)


def normalised(
    operator: Callable[..., tuple[Tensor, Tensor, Tensor]],
    norm: nn.BatchNorm2d,
    backend: str,
) -> Tensor:
    """What an operator that ends in `norm` gives; in training `norm` moves.

    The operator returns its result, [B, C, ...], and the batch's mean and biased variance, [C].
    """
    training, processes = norm.training, sharing(norm)
    running = None if training else running_of(norm)
    out, mean, variance = operator(
        eps=norm.eps, running=running, backend=backend, processes=processes
    )
    if training:
        count = processes * out.numel() // out.shape[1]
        advance([norm], mean[None], variance[None], count, backend)
    return out


def classify(classifier: nn.Linear, features: Tensor, backend: str) -> Tensor:
    """Features [B, C] -> logits [B, num_classes]."""
    plain = type(classifier) is nn.Linear and classifier.bias is not None
    if backend == "reference" or not plain or is_hooked(classifier):
        return classifier(features)  # type: ignore[no-any-return]
    return linear_map(features, classifier.weight, backend=backend) + classifier.bias


class FusedGraph:
    """Runs candidate operations that stay ordinary modules, with their state_dict, as one operator.

    `edges` holds the candidate operations of every edge, in the order of alpha's rows.
    """

    def __init__(
        self, edges: Sequence[nn.Module], graph: CellGraph, C: int, sampling: Sampling
    ) -> None:
        self.watched = Watched(edges)
        self.graph, self.sampling = graph, sampling
        self._direct: tuple[list[nn.BatchNorm2d], Any, list[Any], list[Any]] | None = None
        """The batch-norms that it is of, the compiled object, the parameters, the buffers."""
        self.tables = channel_tables(
            C, graph.k, sampling, range(C) if sampling == "random" else None
        )

    def __getstate__(self) -> dict[str, object]:
        """Without the compiled object: copies make their own."""
        return self.__dict__ | {"_direct": None}

    def directly(
        self,
        inputs: list[Tensor],
        alpha: Tensor,
        beta: Tensor | None,
        *,
        edges: Sequence[nn.Module],
        backend: str,
        training: bool,
    ) -> Tensor | None:
        """As `__call__`, by one call of C++: for a step of training on the CPU, whose time is
        short on small maps. None, with nothing done, where that is not known to be right.

        Without beta alpha is [P], of a single edge.
        """
        library, watched = direct(backend), self.watched
        if library is None or not training or self.sampling == "random":
            return None
        if not watched.runs_fused("cpu", edges, training):
            return None
        norms, graph = watched.norms, self.graph
        made = self._direct
        if made is None or made[0] is not norms:  # looked at again
            call = library.MixedCell(
                graph.codes,
                graph.inputs,
                graph.nodes,
                graph.k,
                graph.stride,
                *self.tables,
                graph.eps,
                graph.store,
            )
            parameters = [module._parameters for module in watched.convolutions]
            buffers = [module._buffers for module in norms]
            # At once, for the sake of other threads.
            self._direct = made = norms, call, parameters, buffers
        momentum = norms[0].momentum if norms else 0.0
        if type(momentum) is not float or (norms and sharing(norms[0]) > 1):
            return None
        _, call, parameters, buffers = made
        out: Tensor | None = call(inputs, alpha, beta, momentum, parameters, buffers)
        return out

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
        """inputs [B, C, H, W], alpha [edges, P], beta [edges] -> nodes [B, nodes * C, H', W'].

        Alpha of a single edge may be [P].
        """
        x, norms = inputs[0], self.watched.norms
        tables = self.tables
        if permutation is not None:
            tables = channel_tables(x.shape[1], self.graph.k, self.sampling, permutation)
        processes = sharing(norms[0]) if norms else 1
        out, mean, variance = mixed_cell(
            inputs,
            alpha,
            beta,
            weights_of(self.watched.convolutions),
            graph=self.graph,
            tables=tables,
            running=None if training else self._running(x),
            backend=backend,
            processes=processes,
        )
        if training and norms:
            count = processes * x.shape[0] * x.shape[2] * x.shape[3] // self.graph.stride**2
            advance(norms, mean, variance, count, backend)
        return out

    def _running(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Every batch-norm's running mean and variance, [norms, C/k]."""
        norms = self.watched.norms
        if not norms:
            empty = x.new_empty(0)
            return empty, empty
        mean, variance = buffers_of(norms, "running_mean"), buffers_of(norms, "running_var")
        return torch.stack(mean), torch.stack(variance)


def running_of(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance [C]."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    return mean, variance


def advance(
    norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: int, backend: str
) -> None:
    """Moves the running statistics of N batch-norms by the batch's own, [N, C], of `count` values.

    Raises:
        UserError: they are those of a single value a channel, as nn.BatchNorm2d refuses them.
    """
    if count == 1:
        raise UserError(
            "batch-norm in training: got one value a channel, wanted more (a larger batch or image)"
        )
    momentum = norms[0].momentum
    if momentum is None:
        raise UserError(
            "a batch-norm's momentum has become None: call train() or eval() of the module that "
            "you call, so that it runs as it is now"
        )
    update_running(
        buffers_of(norms, "running_mean"),
        buffers_of(norms, "running_var"),
        buffers_of(norms, "num_batches_tracked"),
        mean,
        variance,
        count=count,
        momentum=momentum,
        backend=backend,
    )


def weights_of(convolutions: Sequence[nn.Conv2d]) -> list[Tensor]:
    """Over a hundred a cell and call: attribute look-up is many times slower.

    Raises:
        UserError: one has become no parameter since the modules were looked at.
    """
    try:
        weights: list[Any] = [m._parameters["weight"] for m in convolutions]
    except KeyError:
        raise UserError(
            "a candidate's weight is no parameter any more (pruned or parametrized): call train() "
            "or eval() of the module that you call, so that it runs as it is now"
        ) from None
    return weights


def buffers_of(norms: Sequence[nn.BatchNorm2d], name: str) -> list[Tensor]:
    """See `weights_of`."""
    buffers: list[Any] = [m._buffers[name] for m in norms]
    return buffers
