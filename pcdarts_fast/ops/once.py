"""Backward functions that cannot be differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import function

Backward = Callable[..., Any]


def once_differentiable(backward: Backward) -> Backward:
    """What torch's decorator of this name does, entered only where it has something to do.

    That is under `create_graph=True`; elsewhere it would cost 20 us a call (2-core EPYC).
    """
    checked: Backward = function.once_differentiable(backward)

    @functools.wraps(backward)
    def either(ctx: Any, *grads: Any) -> Any:
        return checked(ctx, *grads) if torch.is_grad_enabled() else backward(ctx, *grads)

    return either
