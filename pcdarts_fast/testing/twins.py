"""One module twice: as eager modules and on an engine, with the same state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from ..nn.mixed_op import FusedPartialMixedOp

M = TypeVar("M", bound=nn.Module)


def twins(build: Callable[[str], M], backend: str = "cpu") -> tuple[M, M]:
    """`build("reference")` and `build(backend)`, of one seed. Their running statistics are such as
    a training might leave: small means, so that a ReLU behind them lets something through."""
    torch.manual_seed(0)
    reference = build("reference")
    for name, value in reference.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    fused = build(backend)
    fused.load_state_dict(reference.state_dict())
    return reference, fused


def edge_twins(
    C: int, stride: int, backend: str = "cpu", **options: object
) -> tuple[FusedPartialMixedOp, FusedPartialMixedOp]:
    """A mixed operation with these options, twice."""
    return twins(
        lambda name: FusedPartialMixedOp(C, stride, backend=name, **options),  # type: ignore[arg-type]
        backend,
    )
