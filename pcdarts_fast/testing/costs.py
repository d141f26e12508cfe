"""What can be counted instead of timed: launches and bytes moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .cases import super_net_cell


class Traffic(TorchDispatchMode):
    """Inside, counts PyTorch's operators and the bytes of the tensors that they read and write.

    Views and allocations are free. Every operator is taken to be one launch and to move each of its
    tensors once, which flatters the ones that are several launches, such as a convolution's
    backward.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace != "aten" or "empty" in func.__name__:
            return result
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        self.launches += bool(tensors)
        self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return result


MOST_OF_NAIVE = {"launches": 1 / 20, "bytes": 1 / 5}
"""What a cell of a GPU engine may cost, forward and backward together."""


def cell_costs(
    backend: str,
    C: int,
    size: int,
    reduction: bool,
    kernels: Callable[[], tuple[int, int]] = lambda: (0, 0),
) -> dict[str, dict[str, int]]:
    """Launches and bytes of a cell with its preprocessing, forward and backward, for one image.

    PyTorch's operators count as in `Traffic`; `kernels` gives what the backend's own add up to
    so far, (launches, bytes).
    """
    torch.manual_seed(0)
    cell = super_net_cell(C, C, reduction=reduction, backend=backend)
    x = [torch.randn(1, C, size, size).requires_grad_() for _ in range(2)]
    alpha, beta = torch.rand(14, 8).requires_grad_(), torch.rand(14).requires_grad_()
    grad = torch.ones(1, 4 * C, size // (1 + reduction), size // (1 + reduction))
    out: list[Tensor] = []
    found = {}
    for way, call in (
        ("forward", lambda: out.append(cell(*x, alpha, beta))),
        ("backward", lambda: out[0].backward(grad)),
    ):
        launches, moved = kernels()
        with Traffic() as traffic:
            call()
        after = kernels()
        found[way] = {
            "launches": traffic.launches + after[0] - launches,
            "bytes": traffic.bytes + after[1] - moved,
        }
    return found
