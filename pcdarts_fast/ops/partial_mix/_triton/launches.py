"""Both directions of partial_mix on Triton."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._triton.launch import channel_table, launch
from ..._triton.sums import column_sums
from .kernels import backward_kernel, forward_kernel

TILE = 256  # pixels


def forward(
    outputs: list[Tensor],
    weights: Tensor,
    x: Tensor,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
) -> Tensor:
    B, C, H, W = x.shape
    H, W = H // stride, W // stride
    out = x.new_empty(B, C, H, W)
    launch(
        forward_kernel,
        (-(-B * H * W // TILE), C),
        *(_pointers(outputs, x), weights, x.contiguous()),
        *(channel_table(source, destination, x.device), out, B * H * W, H, W),
        OUTPUTS=len(outputs),
        C=C,
        MIXED=C // k,
        STRIDE=stride,
        P=TILE,
    )
    return out


def backward(
    grad: Tensor,
    outputs: list[Tensor],
    weights: Tensor,
    x: Tensor | None,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
    need_outputs: bool,
    need_weights: bool,
    need_x: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    B, C, H, W = grad.shape
    count, mixed, tiles = weights.shape[0], C // k, -(-B * H * W // TILE)
    grad_outputs = [grad.new_empty(B, mixed, H, W) for _ in range(count if need_outputs else 0)]
    grad_x = grad.new_empty((B, C, H * stride, W * stride) if need_x else (0,))
    partial = grad.new_empty(tiles * mixed if need_weights else 0, count, dtype=torch.float32)
    grad = grad.contiguous()
    launch(
        backward_kernel,
        (tiles, C),
        *(grad, _pointers(outputs, grad), weights, grad if x is None else x.contiguous()),
        *(channel_table(source, destination, grad.device), _pointers(grad_outputs, grad)),
        *(partial, grad_x, B * H * W, H, W),
        OUTPUTS=count,
        C=C,
        MIXED=mixed,
        STRIDE=stride,
        NEED_OUTPUTS=need_outputs,
        NEED_WEIGHTS=need_weights,
        NEED_X=need_x,
        P=TILE,
    )
    grad_weights = column_sums(partial) if need_weights else partial.new_empty(0)
    return grad_outputs, grad_weights.to(weights.dtype), grad_x


def _pointers(tensors: Sequence[Tensor], other: Tensor) -> tuple[Tensor, ...]:
    """What a kernel takes as a tuple of pointers; `other` where there is none."""
    return tuple(tensor.contiguous() for tensor in tensors) or (other,)
