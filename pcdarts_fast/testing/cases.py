"""The table of cases that tests and benchmarks share, a row a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..nn.cell import SearchCell
from ..nn.mixed_op import FusedPartialMixedOp
from ..ops.channels import Sampling, channel_tables
from ..space import PRIMITIVES

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One row: `make(dtype=..., device=..., requires_grad=...)` gives the arguments of a call."""

    id: str
    make: Callable[..., Arguments]
    bench: bool = False  # also a row in benchmarks/


def leaves(arguments: Arguments) -> list[Tensor]:
    """The tensors among the arguments that want a gradient, lists flattened, in order."""
    found: list[Tensor] = []
    for value in arguments.values():
        items = value if isinstance(value, (list, tuple)) else [value]
        found += [item for item in items if isinstance(item, Tensor) and item.requires_grad]
    return found


def _partial_mix(
    B: int,
    C: int,
    k: int,
    H: int,
    W: int,
    *,
    stride: int = 1,
    P: int = 7,
    sampling: Sampling = "shuffle",
    bench: bool = False,
) -> Case:
    def make(
        dtype: torch.dtype = torch.float32, device: str = "cpu", requires_grad: bool = False
    ) -> Arguments:
        generator = torch.Generator(device).manual_seed(0)

        def randn(*shape: int) -> Tensor:
            tensor = torch.randn(*shape, generator=generator, device=device, dtype=dtype)
            return tensor.requires_grad_(requires_grad)

        order = torch.randperm(C, generator=torch.Generator().manual_seed(1)).tolist()
        permutation = order if sampling == "random" else None
        # coarse values: a pool window then often holds its maximum twice
        x = (randn(B, C, H, W).detach() * 2).round().div(2).requires_grad_(requires_grad)
        return {
            "outputs": [randn(B, C // k, H // stride, W // stride) for _ in range(P)],
            "weights": randn(P).detach().softmax(0).requires_grad_(requires_grad),
            "x": x,
            "k": k,
            "stride": stride,
            "tables": channel_tables(C, k, sampling, permutation),
        }

    name = f"{B}x{C}x{H}x{W}-k{k}-s{stride}-p{P}" + (
        "" if sampling == "shuffle" else f"-{sampling}"
    )
    return Case(name, make, bench)


def _mixed_op(B: int, C: int, H: int, W: int, *, stride: int = 1, bench: bool = False) -> Case:
    """An edge of the super-net: `FusedPartialMixedOp(C, stride)(x, weights)`."""

    def make(
        dtype: torch.dtype = torch.float32, device: str = "cpu", requires_grad: bool = False
    ) -> Arguments:
        generator = torch.Generator(device).manual_seed(0)
        x = torch.randn(B, C, H, W, generator=generator, device=device, dtype=dtype)
        weights = torch.linspace(-1, 1, 8, device=device, dtype=dtype).softmax(0)
        return {
            "C": C,
            "stride": stride,
            "x": x.requires_grad_(requires_grad),
            "weights": weights.requires_grad_(requires_grad),
        }

    return Case(f"{B}x{C}x{H}x{W}-s{stride}", make, bench)


CASES: dict[str, list[Case]] = {
    "mixed_op": [
        _mixed_op(3, 8, 6, 10),
        _mixed_op(2, 12, 8, 4, stride=2),
        _mixed_op(64, 16, 32, 32, bench=True),
        _mixed_op(64, 32, 16, 16, bench=True),
        _mixed_op(64, 64, 8, 8, bench=True),
        _mixed_op(64, 32, 32, 32, stride=2, bench=True),
        _mixed_op(64, 16, 28, 28, bench=True),
    ],
    "partial_mix": [
        _partial_mix(1, 1, 1, 1, 1, P=1),
        _partial_mix(1, 4, 1, 3, 5, P=2),
        _partial_mix(1, 4, 1, 2, 6, P=2, stride=2),
        _partial_mix(1, 8, 4, 7, 5),
        _partial_mix(3, 6, 2, 9, 11, P=3),
        _partial_mix(2, 16, 4, 16, 16),
        _partial_mix(2, 8, 8, 6, 10, stride=2),
        _partial_mix(3, 16, 4, 34, 38, stride=2, P=8),
        _partial_mix(2, 8, 4, 8, 8, P=0),
        _partial_mix(0, 8, 4, 8, 8, P=2),
        _partial_mix(2, 12, 3, 8, 8, P=4, sampling="shift"),
        _partial_mix(2, 12, 4, 8, 6, P=4, sampling="random"),
        _partial_mix(2, 12, 4, 8, 6, P=4, stride=2, sampling="random"),
        _partial_mix(64, 16, 4, 32, 32, bench=True),
        _partial_mix(64, 64, 4, 8, 8, bench=True),
        _partial_mix(64, 16, 4, 32, 32, stride=2, bench=True),
    ],
}


EDGES = [case for case in CASES["mixed_op"] if case.bench]
"""Those of the benchmarks."""


def edge_of(
    case: Case, device: str = "cpu"
) -> tuple[Callable[..., FusedPartialMixedOp], Arguments]:
    """What makes the edge of a case, given a backend, and the arguments of a call of it."""
    arguments = case.make(device=device, requires_grad=True)
    return partial(FusedPartialMixedOp, arguments.pop("C"), arguments.pop("stride")), arguments


def super_net_cell(C_in: int, C: int, *, reduction: bool, backend: str, k: int = 4) -> SearchCell:
    """A cell of the CIFAR-10 preset's super-net, behind two states of `C_in` channels."""
    return SearchCell(
        *(C_in, C_in, C),
        reduction=reduction,
        reduction_prev=False,
        nodes=4,
        k=k,
        primitives=PRIMITIVES,
        sampling="shuffle",
        backend=backend,
        memory="recompute",
    )
