"""The searched cell: a directed acyclic graph whose edges are mixed operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..space import CELL_INPUTS, cell_edges, edges_into
from .mixed_op import FusedPartialMixedOp
from .operations import FactorizedReduce, ReLUConvBN


class SearchCell(nn.Module):
    """Node n = sum over its incoming edges e of beta_e * mixed_e(source); output = all nodes.

    Edge normalization is the weight beta (paper section 3.3, eq. 4). Both inputs are brought to C
    channels (and the same size) by `preprocess0` and `preprocess1` first.
    """

    def __init__(
        self,
        C_prev_prev: int,
        C_prev: int,
        C: int,
        *,
        reduction: bool,
        reduction_prev: bool,
        nodes: int,
        k: int,
        primitives: Sequence[str],
        sampling: str,
        backend: str,
        memory: str,
    ) -> None:
        super().__init__()
        self.reduction, self.nodes = reduction, nodes
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(C_prev_prev, C, affine=False)
        else:
            self.preprocess0 = ReLUConvBN(C_prev_prev, C, affine=False)
        self.preprocess1 = ReLUConvBN(C_prev, C, affine=False)
        self._ops = nn.ModuleList(
            FusedPartialMixedOp(
                C,
                2 if reduction and edge.source < CELL_INPUTS else 1,
                k=k,
                primitives=primitives,
                sampling=sampling,
                backend=backend,
                memory=memory,
            )
            for edge in cell_edges(nodes)
        )

    def forward(self, s0: Tensor, s1: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """s0, s1 [B, C_prev, H, W], alpha [edges, P], beta [edges] -> [B, nodes * C, H', W']."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        return self.eager(states, alpha, beta)

    def eager(self, states: list[Tensor], alpha: Tensor, beta: Tensor) -> Tensor:
        """The graph edge by edge; one permutation serves the whole cell."""
        edges = cast(list[FusedPartialMixedOp], list(self._ops))
        permutation = edges[0].permutation()
        for target in range(CELL_INPUTS, CELL_INPUTS + self.nodes):
            rows = edges_into(target)
            terms = [
                b * edge.eager(state, a, permutation)
                for edge, state, a, b in zip(edges[rows], states, alpha[rows], beta[rows], strict=True)
            ]
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[CELL_INPUTS:], 1)
