"""Signs of a collapsing search: how decided alpha and beta are, and how many edges are skips."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nn.search_network import SearchNetwork
from ..space import CELL_INPUTS, CELLS, Genotype, edges_into


@torch.no_grad()
def entropies(network: SearchNetwork) -> dict[str, float]:
    """Mean entropy, in nats, of softmax(alpha) of an edge and of softmax(beta) of a node.

    From the logarithm of the number of choices (undecided) down to 0 (decided).
    """
    result = {}
    states = range(CELL_INPUTS, CELL_INPUTS + network.nodes)
    for kind in CELLS:
        alpha: Tensor = getattr(network, f"alphas_{kind}")  # [edges, P]
        beta: Tensor = getattr(network, f"betas_{kind}")  # [edges]
        of_nodes = [_entropy(beta[edges_into(state)]) for state in states]
        result[f"alpha_entropy_{kind}"] = float(_entropy(alpha).mean())
        result[f"beta_entropy_{kind}"] = float(torch.stack(of_nodes).mean())
    return result


def skips(genotype: Genotype) -> int:
    """Skip connections in the normal cell."""
    return sum(primitive == "skip_connect" for primitive, _ in genotype.normal)


def _entropy(logits: Tensor) -> Tensor:
    """Of softmax over the last dimension."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
