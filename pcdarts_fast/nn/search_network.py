"""The super-net that is searched: a stem, cells of mixed operations, a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import UserError, check_choice
from ..ops.channels import Sampling, check_channels
from ..space import (
    CELL_INPUTS,
    CELLS,
    PRIMITIVES,
    Ceilings,
    Genotype,
    cell_edges,
    derive,
    edges_into,
    reductions,
)
from .cell import SearchCell
from .fused import classify, engine, run_stem
from .stem import Stem, cifar_stem, imagenet_stems
from .watched import Watched

ARCHITECTURE = ("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce")


class SearchNetwork(nn.Module):
    """The PC-DARTS super-net (paper sections 3 and 4.1).

    Cells number layers//3 and 2*layers//3 are reduction cells: they halve H and W and double the
    channels. Parameter names are those of the published checkpoints; alpha and beta are
    parameters too (`alphas_normal` [edges, P], `betas_normal` [edges] and the same for `reduce`).

    Args:
        C: channels of the first cells' nodes; divisible by k.
        num_classes: outputs of the classifier.
        layers: number of cells.
        k: 1/k of the channels goes through the candidate operations.
        primitives: the candidate operations of every edge.
        nodes: intermediate nodes of a cell.
        stem: "cifar" keeps the image size, "imagenet" divides it by 8 before the first cell.
        in_channels: channels of the images.
        sampling: "shuffle", "shift" or "random", see `FusedPartialMixedOp`.
        edge_normalization: weigh edges by softmax(beta); without it every edge counts 1.
        backend: "auto", "reference", "cpu", "triton" or "cuda".
        memory: "recompute" or "store", see `FusedPartialMixedOp`.

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(
        self,
        C: int,
        num_classes: int,
        layers: int,
        *,
        k: int = 4,
        primitives: Sequence[str] = PRIMITIVES,
        nodes: int = 4,
        stem: Stem = "cifar",
        in_channels: int = 3,
        sampling: Sampling = "shuffle",
        edge_normalization: bool = True,
        backend: str = "auto",
        memory: str = "recompute",
    ) -> None:
        super().__init__()
        check_channels(C, k)
        check_choice("stem", stem, get_args(Stem))
        if layers < 1 or num_classes < 1 or nodes < 1:
            raise UserError(
                f"layers, num_classes, nodes: got {layers}, {num_classes}, {nodes}, wanted >= 1"
            )
        if not set(primitives) - {"none"}:
            raise UserError(f"primitives: got {list(primitives)}, wanted one other than none")
        self.primitives, self.nodes = tuple(primitives), nodes
        self._wanted_backend = backend
        self.edge_normalization = edge_normalization

        C_prev_prev = C_prev = 3 * C
        if stem == "cifar":
            self.stem = cifar_stem(in_channels, C_prev)
            self._watched_stem = Watched([self.stem])
        else:
            self.stem0, self.stem1 = imagenet_stems(in_channels, C_prev)

        self.cells = nn.ModuleList()
        reduction_prev = stem == "imagenet"
        C_cell = C
        for layer in range(layers):
            reduction = layer in reductions(layers)
            C_cell *= 2 if reduction else 1
            cell = SearchCell(
                C_prev_prev,
                C_prev,
                C_cell,
                reduction=reduction,
                reduction_prev=reduction_prev,
                nodes=nodes,
                k=k,
                primitives=primitives,
                sampling=sampling,
                backend=backend,
                memory=memory,
            )
            self.cells.append(cell)
            C_prev_prev, C_prev, reduction_prev = C_prev, nodes * C_cell, reduction

        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(C_prev, num_classes)

        self._weights: list[nn.Parameter] = []
        edges = len(cell_edges(nodes))
        for name in ARCHITECTURE:
            shape = (edges, len(primitives)) if name.startswith("alphas") else (edges,)
            self.register_parameter(name, nn.Parameter(1e-3 * torch.randn(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, in_channels, H, W] -> logits [B, num_classes]."""
        backend = engine(self._wanted_backend, x)
        if hasattr(self, "stem"):
            s0 = s1 = run_stem(self.stem, self._watched_stem, x, backend)
        else:
            s0 = self.stem0(x)
            s1 = self.stem1(s0)
        normal, reduce = self.mixing_weights("normal"), self.mixing_weights("reduce")
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, *(reduce if cell.reduction else normal))
        features = self.global_pooling(s1).flatten(1)  # in autocast of another dtype than images
        return classify(self.classifier, features, engine(self._wanted_backend, features))

    def train(self, mode: bool = True) -> SearchNetwork:
        """As nn.Module's; what has been changed inside of the network counts from here on."""
        if hasattr(self, "stem"):
            self._watched_stem.stale = True
        self._weights = []
        return super().train(mode)

    def mixing_weights(self, cell: Literal["normal", "reduce"]) -> tuple[Tensor, Tensor]:
        """softmax(alpha) over primitives [edges, P], softmax(beta) over a node's edges [edges]."""
        alpha: Tensor = getattr(self, f"alphas_{cell}").softmax(-1)
        beta: Tensor = getattr(self, f"betas_{cell}")
        if not self.edge_normalization:
            return alpha, torch.ones_like(beta)
        states = range(CELL_INPUTS, CELL_INPUTS + self.nodes)
        return alpha, torch.cat([beta[edges_into(state)].softmax(0) for state in states])

    @property
    def backend(self) -> str:
        """The backend that runs the cells on the device and in the dtype of the parameters.

        Raises:
            UserError: the one that was asked for cannot.
        """
        return engine(self._wanted_backend, next(self.parameters()))

    def arch_parameters(self) -> list[nn.Parameter]:
        """alphas_normal, alphas_reduce, betas_normal, betas_reduce."""
        return [getattr(self, name) for name in ARCHITECTURE]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else that is learnt."""
        return [p for name, p in self.named_parameters() if name not in ARCHITECTURE]

    def _known_weights(self) -> list[nn.Parameter]:
        """`weight_parameters` for every step: walking 4,871 modules takes milliseconds."""
        if not self._weights or self._weights[-1] is not self.classifier.bias:
            self._weights = self.weight_parameters()
        return self._weights

    @contextmanager
    def learning(self, what: Literal["weights", "architecture"]) -> Iterator[None]:
        """Inside, only these parameters require gradients, so that backward computes no others.

        Raises:
            UserError: `what` is neither "weights" nor "architecture".
        """
        check_choice("learning", what, ("weights", "architecture"))
        frozen = self.arch_parameters() if what == "weights" else self._known_weights()
        frozen = [p for p in frozen if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    @torch.no_grad()
    def genotype(self, ceilings: Ceilings | None = None) -> Genotype:
        """The strongest operations by softmax(alpha) * softmax(beta), two edges into each node.

        Raises:
            UserError: no genotype keeps to `ceilings`, see `derive`.
        """
        strengths: dict[str, list[list[float]]] = {}
        for cell in CELLS:
            alpha, beta = self.mixing_weights(cell)
            strengths[cell] = (alpha * beta[:, None]).tolist()
        cells = derive(strengths, self.primitives, self.nodes, ceilings)
        concat = tuple(range(CELL_INPUTS, CELL_INPUTS + self.nodes))
        return Genotype(cells["normal"], concat, cells["reduce"], concat)
