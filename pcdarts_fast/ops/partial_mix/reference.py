"""The reference backend of partial_mix: plain torch, any dtype, any device. Slow on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .._registry import define, implements
from ..dense import accumulation_dtype

FORWARD = (
    "partial_mix_fwd(Tensor[] outputs, Tensor weights, Tensor x, int k, int stride,"
    " int[] source, int[] destination) -> Tensor"
)
BACKWARD = (
    "partial_mix_bwd(Tensor grad, Tensor[] outputs, Tensor weights, Tensor? x, int k, int stride,"
    " int[] source, int[] destination, bool need_outputs, bool need_weights, bool need_x)"
    " -> (Tensor[], Tensor, Tensor)"
)


def _forward_fake(
    outputs: list[Tensor],
    weights: Tensor,
    x: Tensor,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
) -> Tensor:
    B, C, H, W = x.shape
    return x.new_empty(B, C, H // stride, W // stride)


def _backward_fake(
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
    P = weights.shape[0]
    return (
        [grad.new_empty(B, C // k, H, W) for _ in range(P if need_outputs else 0)],
        weights.new_empty(P if need_weights else 0),
        grad.new_empty((B, C, H * stride, W * stride) if need_x else (0,)),
    )


define(FORWARD, fake=_forward_fake)
define(BACKWARD, fake=_backward_fake)


@implements("partial_mix_fwd", "reference")
def forward(
    outputs: list[Tensor],
    weights: Tensor,
    x: Tensor,
    k: int,
    stride: int,
    source: Sequence[int],
    destination: Sequence[int],
) -> Tensor:
    wide = accumulation_dtype(x.dtype)
    B, C, H, W = x.shape
    pooled = F.max_pool2d(x, 2) if stride == 2 else x
    bypass = pooled[:, list(source[C // k :])]  # [B, C - C/k, H', W']
    mixed = x.new_zeros(B, C // k, H // stride, W // stride, dtype=wide)
    for weight, output in zip(weights.to(wide), outputs, strict=True):
        mixed += weight * output.to(wide)
    cat = torch.cat([mixed.to(x.dtype), bypass], 1)
    return cat[:, _inverse(destination)].contiguous()


@implements("partial_mix_bwd", "reference")
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
    wide = accumulation_dtype(grad.dtype)
    B, C, H, W = grad.shape
    cat = grad[:, list(destination)]  # [B, C, H', W']
    mixed = cat[:, : C // k].to(wide)
    grad_outputs = [(w * mixed).to(grad.dtype) for w in weights.to(wide)] if need_outputs else []
    grad_weights = weights.new_empty(0)
    if need_weights and outputs:
        sums = [(mixed * output.to(wide)).sum() for output in outputs]
        grad_weights = torch.stack(sums).to(weights.dtype)
    grad_x = grad.new_empty(0)
    if need_x:
        bypass = cat[:, C // k :]
        grad_x = grad.new_zeros(B, C, H * stride, W * stride)
        if stride == 2 and x is not None:
            bypass = _unpool(bypass, x[:, list(source[C // k :])])
        grad_x[:, list(source[C // k :])] = bypass
    return grad_outputs, grad_weights, grad_x


def _unpool(grad: Tensor, x: Tensor) -> Tensor:
    if grad.numel() == 0:
        return torch.zeros_like(x)
    _, index = F.max_pool2d(x, 2, return_indices=True)
    flat = x.new_zeros(*x.shape[:2], x.shape[2] * x.shape[3])
    return flat.scatter_(2, index.flatten(2), grad.flatten(2)).view(x.shape)


def _inverse(permutation: Sequence[int]) -> list[int]:
    return sorted(range(len(permutation)), key=permutation.__getitem__)
