"""One edge of the super-net, against the eager modules and against the compiler."""

from __future__ import annotations

import pytest
from torch import nn

from pcdarts_fast.testing.cases import EDGES, Case, edge_of

LIMIT = 2e-5  # of float32 against float32; against float64 the tests hold each side to 1e-5


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: case.id)
def test_edge(case: Case, memory: str, compare_modules) -> None:
    make, arguments = edge_of(case)
    compare_modules(
        f"edge {case.id} {memory}",
        lambda backend: make(backend=backend, memory=memory),
        arguments,
        limit=LIMIT,
        family=f"edges, {memory}",
    )


@pytest.mark.parametrize("direction", ["forward+backward"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: case.id)
def test_edge_in_a_row(case: Case, direction: str, compare_modules) -> None:
    """Without the other side's data in the caches, as between the edges of one network."""
    make, arguments = edge_of(case)
    compare_modules(
        f"edge {case.id}, ten in a row",
        lambda backend: make(backend=backend),
        arguments,
        limit=LIMIT,
        rounds=5,
        calls=10,
        family="edges, ten in a row",
    )


@pytest.mark.parametrize("direction", ["forward+backward"])
def test_edge_against_the_compiler(direction: str, compare_modules) -> None:
    make, arguments = edge_of(EDGES[0])

    def compiled(backend: str) -> nn.Module:
        edge = make(backend=backend)
        if backend == "reference":
            edge.compile(fullgraph=True)
        return edge

    compare_modules(f"edge {EDGES[0].id}, naive compiled", compiled, arguments, limit=LIMIT)
