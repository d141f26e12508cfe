"""The partial-channel mixed operation of one edge, a drop-in for the published `MixedOp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ..errors import UserError, check_choice
from ..ops import BACKENDS, partial_mix
from ..ops.channels import Sampling, channel_tables, check_channels
from ..ops.checks import check_stride
from ..ops.mixed_cell import CellGraph
from ..space import PRIMITIVES
from .fused import FusedGraph, engine, is_fused
from .inputs import check_fits, check_state
from .naive import mixed_operation
from .operations import Zero, make_operation
from .sampling import mix_sampled
from .watched import is_hooked

MEMORY = ("recompute", "store")
EPS = 1e-5  # of every batch-norm, as nn.BatchNorm2d's default


class FusedPartialMixedOp(nn.Module):
    """1/k of the channels goes through all candidate operations, the rest bypasses them.

    y = reorder(cat[sum_i alpha_i o_i(x[:, :C/k]), x[:, C/k:]])    (paper section 3.2, eq. 2)

    Every o_i ends in a batch-norm without scale and shift (`none` and the stride-1
    `skip_connect` excepted); at stride 2 the bypass is a 2x2 max-pool of the rest.

    A fused backend computes the candidates without calling them. What you change inside of them
    (a module replaced, a hook, a frozen batch-norm) counts from the next call of `train` or `eval`
    on: they then run as modules, and only mixing is fused. Second derivatives need "reference".

    Args:
        C: channels of input and output.
        stride: 1, or 2 (needs even H and W).
        k: 1/k of the channels is sampled; divides C.
        primitives: the candidate operations, any of `nn.operations.OPERATIONS`.
        sampling: "shuffle" (the first C/k channels, then a channel shuffle), "shift" (the first
            C/k, moved to the end) or "random" (others at every training call, put back in place).
        backend: "auto", "reference", "cpu", "triton" or "cuda".
        memory: "recompute" saves only the input for backward, "store" also the convolutions'
            outputs. Both give the same bits.

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(
        self,
        C: int,
        stride: int,
        k: int = 4,
        *,
        primitives: Sequence[str] = PRIMITIVES,
        sampling: Sampling = "shuffle",
        backend: str = "auto",
        memory: str = "recompute",
    ) -> None:
        super().__init__()
        check_channels(C, k)
        check_stride(stride)
        if not primitives:
            raise UserError("primitives: got none, wanted one candidate operation or more")
        check_choice("sampling", sampling, get_args(Sampling))
        check_choice("memory", memory, MEMORY)
        check_choice("backend", backend, ("auto", *BACKENDS))
        self.C, self.stride, self.k = C, stride, k
        self.primitives = tuple(primitives)
        self.sampling, self.backend, self.memory = sampling, backend, memory
        self._ops = nn.ModuleList(
            search_operation(primitive, C // k, stride) for primitive in primitives
        )
        self._fused: FusedGraph | None = None
        if is_fused(primitives, 2):
            graph = CellGraph(self.primitives, 1, 1, k, stride, EPS, memory == "store")
            self._fused = FusedGraph([self._ops], graph, C, sampling)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x [B, C, H, W], soft-maxed alpha [P] -> [B, C, H/stride, W/stride]."""
        if self._fused is not None:
            out = self._fused.directly(
                [x],
                weights,
                None,
                edges=[self._ops],
                backend=self.backend,
                training=self.training,
            )
            if out is not None:
                return out
        check_state(x, self.C, self.stride)
        if weights.shape != (len(self.primitives),):
            raise UserError(
                f"weights: got shape {tuple(weights.shape)}, wanted [{len(self.primitives)}], "
                "one for each primitive"
            )
        backend = engine(self.backend, x)

        def mix(states: list[Tensor], permutation: list[int] | None) -> Tensor:
            fused = self._fused
            if fused is None or not fused.watched.runs_fused(backend, [self._ops], self.training):
                try:
                    return self.by_modules(states[0], weights, permutation, backend)
                except RuntimeError:
                    check_fits(x, weights, self)
                    raise
            return fused(
                states,
                weights,
                weights.new_ones(1),
                backend=backend,
                permutation=permutation,
                training=self.training,
            )

        return mix_sampled(mix, [x], self.sampling, self.training)

    def train(self, mode: bool = True) -> FusedPartialMixedOp:
        """As nn.Module's; what has been changed inside of the candidates counts from here on."""
        if self._fused is not None:
            self._fused.watched.stale = True
        return super().train(mode)

    def by_modules(
        self, x: Tensor, alpha: Tensor, permutation: list[int] | None, backend: str
    ) -> Tensor:
        """The candidate operations as modules: any module can be one, only mixing is fused.

        On the reference backend mixing is plain torch too: the oracle, on any device and dtype.
        """
        if backend != "reference":
            tables = channel_tables(self.C, self.k, self.sampling, permutation)
            sampled = x[:, : self.C // self.k]
            if permutation is not None:
                sampled = x[:, permutation[: self.C // self.k]]
            chosen = [i for i, op in enumerate(self._ops) if type(op) is not Zero or is_hooked(op)]
            outputs = [self._ops[i](sampled).to(x.dtype) for i in chosen]  # autocast's are others
            weights = torch.stack([alpha[i] for i in chosen]) if chosen else alpha[:0]
            return partial_mix(
                outputs, weights, x, k=self.k, stride=self.stride, tables=tables, backend=backend
            )
        return mixed_operation(
            self._ops,
            x,
            alpha,
            k=self.k,
            stride=self.stride,
            sampling=self.sampling,
            permutation=permutation,
        )


def search_operation(primitive: str, C: int, stride: int) -> nn.Module:
    """A candidate operation of the super-net: batch-norm without affine, behind pools too."""
    operation = make_operation(primitive, C, stride, affine=False)
    if "pool" in primitive:
        return nn.Sequential(operation, nn.BatchNorm2d(C, affine=False))
    return operation
