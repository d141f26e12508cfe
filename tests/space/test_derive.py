"""Which operations are kept: the strongest, and under ceilings the strongest that keep to them."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdarts_fast.errors import UserError
from pcdarts_fast.space import Ceilings, cell_edges, derive, derive_cell

SKIP_OR_NOT = ("none", "skip_connect", "sep_conv_3x3")


def few_skips(cap: int, primitives: tuple[str, ...] = SKIP_OR_NOT) -> Ceilings:
    costs = {
        (cell, primitive, from_input): (int((cell, primitive) == ("normal", "skip_connect")),)
        for cell in ("normal", "reduce")
        for primitive in primitives
        for from_input in (True, False)
    }
    return Ceilings((cap,), costs)


def worth(strengths, primitives, cells) -> float:
    """Sum of the kept operations' strengths."""
    total = 0.0
    for name, cell in cells.items():
        edges = cell_edges(len(cell) // 2)
        rows = {tuple(edge): row for edge, row in zip(edges, strengths[name], strict=True)}
        total += sum(
            rows[source, 2 + number // 2][primitives.index(primitive)]
            for number, (primitive, source) in enumerate(cell)
        )
    return total


def keeps(cells, ceilings: Ceilings) -> bool:
    pairs = zip(ceilings.total(cells), ceilings.limits, strict=True)
    return all(cost <= limit for cost, limit in pairs)


def all_cells(primitives, nodes):
    """Every cell, with two different edges into each node."""
    kept = [name for name in primitives if name != "none"]
    of_nodes = [
        [
            ((p, a), (q, b))
            for a, b in combinations(range(2 + node), 2)
            for p, q in product(kept, kept)
        ]
        for node in range(nodes)
    ]
    return [sum(choice, ()) for choice in product(*of_nodes)]


def test_the_two_strongest_edges_are_kept_and_never_none() -> None:
    primitives = ("none", "a", "b")
    strength = [
        [0.9, 0.1, 0.2],  # into state 2
        [0.9, 0.4, 0.3],
        [0.9, 0.0, 0.5],  # into state 3
        [0.9, 0.6, 0.0],
        [0.9, 0.1, 0.1],
    ]
    assert derive_cell(strength, primitives, nodes=2) == (("a", 1), ("b", 0), ("a", 1), ("b", 0))


def test_ties_keep_the_lower_number() -> None:
    strength = [[0.5, 0.5, 0.5]] * 5
    assert derive_cell(strength, ("none", "a", "b"), 2) == (("a", 0), ("a", 1), ("a", 0), ("a", 1))


def test_ties_keep_the_lower_number_under_ceilings_too() -> None:
    strengths = dict.fromkeys(("normal", "reduce"), [[0.5, 0.5, 0.5]] * 5)
    cells = derive(strengths, SKIP_OR_NOT, 2, few_skips(0))
    assert cells["normal"] == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 2


def test_a_cap_on_skips_takes_what_costs_least() -> None:
    strength = [[0, 0.9, 0.1], [0, 0.8, 0.2], [0, 0.7, 0.65], [0, 0.6, 0.3], [0, 0.5, 0.4]]
    strengths = {"normal": strength, "reduce": strength}
    free = derive(strengths, SKIP_OR_NOT, 2)
    assert {primitive for primitive, _ in free["normal"]} == {"skip_connect"}
    capped = derive(strengths, SKIP_OR_NOT, 2, few_skips(3))
    # 0.05 is lost on one edge; the pair is listed strongest first.
    assert capped["normal"][2:] == (("sep_conv_3x3", 0), ("skip_connect", 1))
    assert capped["normal"][:2] == free["normal"][:2] and capped["reduce"] == free["reduce"]
    none_left = derive(strengths, SKIP_OR_NOT, 2, few_skips(0))["normal"]
    assert none_left == tuple(("sep_conv_3x3", source) for source in (1, 0, 0, 2))


def test_ceilings_that_nothing_keeps_to() -> None:
    primitives = ("none", "skip_connect")
    strengths = dict.fromkeys(("normal", "reduce"), [[0.5, 0.5]] * 5)
    with pytest.raises(UserError, match="no genotype"):
        derive(strengths, primitives, 2, few_skips(3, primitives))
    assert derive(strengths, primitives, 2, few_skips(4, primitives))


weights = st.lists(st.integers(0, 1000), min_size=15, max_size=15)
costs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=12, max_size=12)


@settings(max_examples=40)
@given(weights, weights, costs, st.integers(0, 60), st.integers(0, 20))
def test_the_best_under_two_ceilings_is_that_of_trying_all(normal, reduce, amounts, first, second):
    """2 nodes, 2 operations: 4 x 12 choices of a cell, 2304 genotypes, of exact strengths."""
    primitives = ("none", "a", "b")
    strengths = {
        name: [[value / 1024 for value in values[3 * e : 3 * e + 3]] for e in range(5)]
        for name, values in (("normal", normal), ("reduce", reduce))
    }
    places = product(("normal", "reduce"), primitives, (True, False))
    ceilings = Ceilings((first, second), dict(zip(places, amounts, strict=True)))
    every = all_cells(primitives, 2)
    assert len(every) == 48
    genotypes = [{"normal": a, "reduce": b} for a, b in product(every, every)]
    possible = [cells for cells in genotypes if keeps(cells, ceilings)]
    if not possible:
        with pytest.raises(UserError, match="no genotype"):
            derive(strengths, primitives, 2, ceilings)
        return
    found = derive(strengths, primitives, 2, ceilings)
    assert keeps(found, ceilings)
    best = max(worth(strengths, primitives, cells) for cells in possible)
    assert worth(strengths, primitives, found) == best


@given(st.lists(st.floats(0, 1), min_size=42, max_size=42), st.integers(0, 8))
def test_cap_on_skips_holds_and_changes_nothing_that_fits(values, cap):
    strength = [values[3 * edge : 3 * edge + 3] for edge in range(14)]
    strengths = {"normal": strength, "reduce": strength}
    free = derive(strengths, SKIP_OR_NOT, 4)
    capped = derive(strengths, SKIP_OR_NOT, 4, few_skips(cap))
    assert sum(primitive == "skip_connect" for primitive, _ in capped["normal"]) <= cap
    assert capped["reduce"] == free["reduce"] or worth(strengths, SKIP_OR_NOT, capped) == worth(
        strengths, SKIP_OR_NOT, {"normal": capped["normal"], "reduce": free["reduce"]}
    )
    if sum(primitive == "skip_connect" for primitive, _ in free["normal"]) <= cap:
        assert capped == free
