"""Random genotypes: what a search could end in, each as likely as the next, by seed alone."""

from __future__ import annotations

from collections import Counter

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.space import PRIMITIVES, Genotype, random_genotype


def test_rules_of_derivation_hold() -> None:
    for seed in range(200):
        nodes = 1 + seed % 5
        genotype = random_genotype(seed, nodes=nodes)
        assert Genotype.from_json(genotype.to_json()) == genotype
        concat = tuple(range(2, 2 + nodes))
        assert (genotype.normal_concat, genotype.reduce_concat) == (concat, concat)
        for cell in (genotype.normal, genotype.reduce):
            assert len(cell) == 2 * nodes
            assert "none" not in {primitive for primitive, _ in cell}
            for state in concat:
                (_, first), (_, second) = cell[2 * (state - 2) : 2 * (state - 1)]
                assert first != second and max(first, second) < state


def test_every_choice_is_as_likely_as_the_next() -> None:
    draws = [random_genotype(seed).normal for seed in range(4000)]
    primitives = Counter(primitive for cell in draws for primitive, _ in cell)
    assert set(primitives) == set(PRIMITIVES) - {"none"}
    assert max(primitives.values()) / min(primitives.values()) < 1.1
    pairs = Counter(frozenset(source for _, source in cell[6:8]) for cell in draws)
    assert len(pairs) == 10  # two of five states
    assert max(pairs.values()) / min(pairs.values()) < 1.35


def test_a_seed_gives_the_same_genotype_for_ever() -> None:
    assert random_genotype(0, nodes=2).normal == (
        ("dil_conv_3x3", 1),
        ("avg_pool_3x3", 0),
        ("skip_connect", 1),
        ("skip_connect", 2),
    )
    assert random_genotype(1) != random_genotype(2)


def test_only_the_primitives_asked_for() -> None:
    cell = random_genotype(3, nodes=6, primitives=("none", "mine")).normal
    assert {primitive for primitive, _ in cell} == {"mine"}
    for bad in ({"nodes": 0}, {"primitives": ("none",)}):
        with pytest.raises(UserError, match="primitive other than none"):
            random_genotype(0, **bad)  # type: ignore[arg-type]
