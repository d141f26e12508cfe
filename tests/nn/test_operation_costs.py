"""The costs of a genotype's operations add up to what counting its network finds."""

from __future__ import annotations

import pytest
import torch

from pcdarts_fast.nn.count import Cost, count
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.nn.operation_costs import operation_costs
from pcdarts_fast.space import PRIMITIVES, PUBLISHED, Genotype


@pytest.mark.parametrize(
    ("stem", "layers", "image"),
    [("cifar", 8, (3, 32, 32)), ("imagenet", 5, (3, 72, 72)), ("cifar", 2, (1, 7, 7))],
)
@pytest.mark.parametrize("name", ["PC_DARTS_cifar", "PDARTS", "DARTS_V1"])
def test_costs_add_up(name: str, stem, layers: int, image) -> None:
    genotype = PUBLISHED[name]
    empty = tuple(("none", source) for _, source in genotype.normal)
    concats = {"normal_concat": genotype.normal_concat, "reduce_concat": genotype.reduce_concat}

    def network(of: Genotype) -> DerivedNetwork:
        with torch.device("meta"):
            built = DerivedNetwork(8, 10, layers, of, stem=stem, in_channels=image[0])
        return built.eval()

    without = network(Genotype(normal=empty, reduce=empty, **concats))
    costs = operation_costs(without, image, PRIMITIVES)
    total = sum(
        (
            costs[cell, primitive, source < 2]
            for cell in ("normal", "reduce")
            for primitive, source in getattr(genotype, cell)
        ),
        count(without, image),
    )
    assert total == count(network(genotype), image)
    assert costs["normal", "none", True] == Cost(0, 0, 0)
