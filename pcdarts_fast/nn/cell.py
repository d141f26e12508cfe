"""The searched cell: a directed acyclic graph whose edges are mixed operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..ops.channels import Sampling
from ..ops.mixed_cell import CellGraph
from ..space import CELL_INPUTS, cell_edges, edges_into
from .fused import FusedGraph, engine, is_fused, run_preprocess
from .inputs import check_state
from .mixed_op import EPS, FusedPartialMixedOp
from .operations import FactorizedReduce, ReLUConvBN
from .sampling import mix_sampled
from .watched import Watched, is_hooked


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
        sampling: Sampling,
        backend: str,
        memory: str,
    ) -> None:
        super().__init__()
        self.C, self.reduction, self.nodes = C, reduction, nodes
        self.sampling, self.backend = sampling, backend
        self.preprocess0: ReLUConvBN | FactorizedReduce
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(C_prev_prev, C, affine=False)
        else:
            self.preprocess0 = ReLUConvBN(C_prev_prev, C, affine=False)
        self.preprocess1 = ReLUConvBN(C_prev, C, affine=False)
        self._watched = Watched([self.preprocess0]), Watched([self.preprocess1])
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
        self._fused: FusedGraph | None = None
        if is_fused(primitives, CELL_INPUTS + nodes):
            stride, store = 2 if reduction else 1, memory == "store"
            graph = CellGraph(tuple(primitives), CELL_INPUTS, nodes, k, stride, EPS, store)
            self._fused = FusedGraph(list(self._ops), graph, C, sampling)

    def forward(self, s0: Tensor, s1: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """s0, s1 [B, C_prev, H, W], alpha [edges, P], beta [edges] -> [B, nodes * C, H', W']."""
        backend = engine(self.backend, s0)
        watched0, watched1 = self._watched
        states = [
            run_preprocess(self.preprocess0, watched0, s0, backend),
            run_preprocess(self.preprocess1, watched1, s1, backend),
        ]
        fused, edges = self._fused, list(self._ops)
        if fused is not None:
            out = fused.directly(
                states,
                alpha,
                beta,
                edges=edges,
                backend=backend,
                training=self.training,
            )
            if out is not None:
                return out
        check_state(states[0], self.C, 2 if self.reduction else 1)

        def mix(states: list[Tensor], permutation: list[int] | None) -> Tensor:
            if fused is None or not fused.watched.runs_fused(backend, edges, self.training):
                return self.by_edges(states, alpha, beta, permutation, backend)
            return fused(
                states,
                alpha,
                beta,
                backend=backend,
                permutation=permutation,
                training=self.training,
            )

        return mix_sampled(mix, states, self.sampling, self.training)

    def train(self, mode: bool = True) -> SearchCell:
        """As nn.Module's; what has been changed inside of the cell counts from here on."""
        for watched in self._watched:
            watched.stale = True
        if self._fused is not None:
            self._fused.watched.stale = True
        return super().train(mode)

    def by_edges(
        self,
        states: list[Tensor],
        alpha: Tensor,
        beta: Tensor,
        permutation: list[int] | None,
        backend: str,
    ) -> Tensor:
        """The graph edge by edge: for candidate operations that are not fused, and the oracle."""
        edges = list(self._ops)
        for target in range(CELL_INPUTS, CELL_INPUTS + self.nodes):
            rows = edges_into(target)
            terms = [
                b * run_edge(edge, state, a, permutation, backend)
                for edge, state, a, b in zip(
                    edges[rows], states, alpha[rows], beta[rows], strict=True
                )
            ]
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[CELL_INPUTS:], 1)


def run_edge(
    edge: nn.Module, state: Tensor, alpha: Tensor, permutation: list[int] | None, backend: str
) -> Tensor:
    """An edge with the cell's permutation; one that is hooked or the user's own is called."""
    if type(edge) is FusedPartialMixedOp and not is_hooked(edge):
        return edge.by_modules(state, alpha, permutation, backend)
    return edge(state, alpha)  # type: ignore[no-any-return]
