"""Calls that the CPU engine takes directly, as cases of its tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..nn.cell import SearchCell
from ..nn.mixed_op import FusedPartialMixedOp
from ..space import PRIMITIVES
from .preprocess import Preprocess
from .training_pass import coarse_images


def is_direct(out: Tensor) -> bool:
    """Whether C++ made its node of the graph."""
    assert out.grad_fn is not None
    return "CppNode" in out.grad_fn.name()


def edge(C: int = 8, stride: int = 1, **options: Any) -> FusedPartialMixedOp:
    torch.manual_seed(0)
    return FusedPartialMixedOp(C, stride, backend="cpu", **options)


def cell(*, reduction: bool, reduction_prev: bool = False, **options: Any) -> SearchCell:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "k": 2,
        "primitives": PRIMITIVES,
        "sampling": "shuffle",
        "memory": "recompute",
    }
    return SearchCell(
        *(6, 10, 8),
        reduction=reduction,
        reduction_prev=reduction_prev,
        nodes=3,
        backend="cpu",
        **(given | options),
    )


def preprocess(stride: int) -> Preprocess:
    torch.manual_seed(0)
    return Preprocess(stride, "cpu")


def edge_arguments(dtype: torch.dtype = torch.float32, size: int = 6) -> list[Tensor]:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = coarse_images(5, 8, size, size + 2, dtype=dtype)
    return [x, torch.linspace(-1, 1, 8, dtype=wide).softmax(0)]


def cell_arguments(sizes: tuple[int, int] = (6, 6)) -> list[Tensor]:
    s0, s1 = (
        coarse_images(5, C, size, size, dtype=torch.float32)
        for C, size in zip((6, 10), sizes, strict=True)
    )
    return [s0, s1, torch.rand(9, 8).softmax(-1), torch.rand(9)]


DIRECT: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "edge": (edge, edge_arguments()),
    "stride 2": (lambda: edge(stride=2), edge_arguments()),
    "store": (lambda: edge(memory="store"), edge_arguments()),
    "shift": (lambda: edge(sampling="shift"), edge_arguments()),
    "all channels": (lambda: edge(k=1), edge_arguments()),
    "maps in stacks": (edge, [coarse_images(32, 8, 4, 4, dtype=torch.float32), torch.ones(8)]),
    "bfloat16": (edge, edge_arguments(torch.bfloat16)),
    "float64": (lambda: edge().double(), edge_arguments(torch.float64)),
    "no batch-norm": (
        lambda: edge(primitives=("none", "skip_connect")),
        [edge_arguments()[0], torch.tensor([0.4, 0.6])],
    ),
    "normal cell": (lambda: cell(reduction=False), cell_arguments()),
    "reduction cell": (lambda: cell(reduction=True, memory="store"), cell_arguments()),
    "behind a reduction": (
        lambda: cell(reduction=False, reduction_prev=True),
        cell_arguments((12, 6)),
    ),
    "preprocessing": (lambda: preprocess(1), [coarse_images(3, 5, 6, 8).float()]),
    "factorized": (lambda: preprocess(2), [coarse_images(3, 5, 6, 8).float()]),
}


class Seen(TorchDispatchMode):
    """Remembers the names of the operators that are called inside of `with`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))
