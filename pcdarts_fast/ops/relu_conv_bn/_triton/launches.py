"""Both directions of relu_conv_bn on Triton: which kernels run, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._triton.launch import launch, power_of_2
from ..._triton.sums import weight_gradients
from ...processes import merge_moments, total
from .kernels import (
    gradient_kernel,
    moments_kernel,
    norm_kernel,
    normalise_kernel,
    product_kernel,
    sums_kernel,
)

TILE = 128  # pixels
BLOCK = 16  # outputs, and inputs taken in at a time: what a dot takes at least


def forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return synchronized_forward(1, *arguments)


def synchronized_forward(
    processes: int,
    x: Tensor,
    weights: list[Tensor],
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    stride: int,
    eps: float,
    linear: bool,
    plain: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    B, C_in, H, W = x.shape
    H, W = H // stride, W // stride
    matrix, C_out, first = _matrix(weights)
    count, tiles = B * H * W, -(-B * H * W // TILE)
    out = x.new_empty(B, C_out, H, W)
    given = running_mean is not None and running_variance is not None
    stats = not given and not plain
    batch_mean, batch_variance = matrix.new_empty(2, C_out if stats else 0).unbind()
    partial = matrix.new_empty(2 * C_out * tiles if stats else 0)
    mean = running_mean if running_mean is not None else batch_mean
    variance = running_variance if running_variance is not None else batch_variance
    launch(
        product_kernel,
        (tiles, _blocks(C_out, first, stride)),
        *(x, matrix, mean, variance, out, partial, count, C_in, C_out, first, H, W, tiles),
        EPS=eps,
        STRIDE=stride,
        LINEAR=linear,
        STATS=stats,
        NORMALISE=given and not plain,
        ROWS=BLOCK,
        COLUMNS=BLOCK,
        P=TILE,
    )
    if stats:
        launch(
            moments_kernel,
            (C_out,),
            *(partial, mean, variance, count, tiles),
            BLOCK=min(1024, power_of_2(tiles)),
            P=TILE,
        )
        if processes > 1:
            merge_moments(mean, variance, processes)
        normalise = out, mean, variance, count, C_out, H, W
        launch(normalise_kernel, (tiles, C_out), *normalise, EPS=eps, P=TILE)
    return out, batch_mean, batch_variance


def backward(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
    return synchronized_backward(1, *arguments)


def synchronized_backward(
    processes: int,
    grad_out: Tensor,
    x: Tensor,
    weights: list[Tensor],
    out: Tensor,
    variance: Tensor,
    stride: int,
    eps: float,
    training: bool,
    need_x: bool,
    need_weights: bool,
    linear: bool,
    plain: bool,
) -> tuple[Tensor, list[Tensor]]:
    B, C_in, H, W = x.shape
    H, W = H // stride, W // stride
    matrix, C_out, first = _matrix(weights)
    count, tiles = B * H * W, -(-B * H * W // TILE)
    coefficients = matrix.new_empty(0 if plain else 3 * C_out)
    if not plain:
        partial = matrix.new_empty(2 * C_out * tiles if training else 0)
        if training:
            sums = grad_out, out, partial, count, C_out, H, W, tiles
            launch(sums_kernel, (tiles, C_out), *sums, P=TILE)
        rows, values = tiles, count
        if training and processes > 1:  # as one tile of all
            partial = total(partial.view(-1, tiles).sum(1), processes)
            rows, values = 1, processes * count
        launch(
            norm_kernel,
            (C_out,),
            *(partial, variance, coefficients, values, rows),
            EPS=eps,
            TRAINING=training,
            BLOCK=min(1024, power_of_2(rows)),
            P=TILE,
        )
    grad_x = torch.empty_like(x) if need_x else x.new_empty(0)
    partial = matrix.new_empty(tiles if need_weights else 0, matrix.numel())
    launch(
        gradient_kernel,
        (tiles, -(-C_in // BLOCK)),
        *(x, matrix, grad_out, out, coefficients, grad_x, partial, count, C_in, C_out, first),
        *(H, W),
        STRIDE=stride,
        LINEAR=linear,
        PLAIN=plain,
        NEED_X=need_x,
        WEIGHTS=need_weights,
        ROWS=BLOCK,
        COLUMNS=BLOCK,
        P=TILE,
    )
    return grad_x, weight_gradients(partial, weights) if need_weights else []


def _matrix(weights: Sequence[Tensor]) -> tuple[Tensor, int, int]:
    """All weights [C_out, C_in], C_out, and how many outputs the first tensor has."""
    flat = [weight.flatten(1) for weight in weights]
    matrix = torch.cat(flat) if len(flat) > 1 else flat[0]
    return matrix, matrix.shape[0], flat[0].shape[0]


def _blocks(C_out: int, first: int, stride: int) -> int:
    halves = [C_out] if stride == 1 else [first, C_out - first]
    return sum(-(-half // BLOCK) for half in halves)
