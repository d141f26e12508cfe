"""Backward functions that cannot be differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., Any]


def once_differentiable(backward: Backward) -> Backward:
    """Under `create_graph=True` the gradients lead back to an error, and to no number.

    torch's decorator of this name errs only on the way to the upstream gradient: a Hessian comes
    out as zeros, and a penalty on the gradient of a linear loss does nothing. It also costs 20 us
    a call without `create_graph` (2-core EPYC).
    """

    @functools.wraps(backward)
    def either(ctx: Any, *grads: Tensor | None) -> Any:
        if not torch.is_grad_enabled():
            return backward(ctx, *grads)
        seen = _Seen(ctx)
        with torch.no_grad():
            results = backward(seen, *grads)
        places = [i for i, result in enumerate(results) if result is not None]
        sources = [t for t in (*seen.saved_tensors, *grads) if t is not None]
        given = _Once.apply(len(places), *(results[i] for i in places), *sources)
        replaced = dict(zip(places, given, strict=True))
        return tuple(replaced.get(i) for i in range(len(results)))

    return either


class _Seen:
    """A context whose saved tensors are asked for once: a checkpoint has them for one time."""

    def __init__(self, ctx: Any) -> None:
        self._ctx, self.saved_tensors = ctx, ctx.saved_tensors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


class _Once(torch.autograd.Function):
    """The first `count` tensors, as a function of all the others that has no derivative."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "a fused operator of pcdarts_fast cannot be differentiated twice: "
            'build the module with backend="reference" for second derivatives'
        )
