"""Ceilings on what the derived network costs, from the settings to the genotype of a search."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pcdarts_fast import Genotype, SearchNetwork
from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.presets import PRESETS, search_config
from pcdarts_fast.search import Notice, search
from pcdarts_fast.search.ceilings import ceilings_of, derived_cost
from pcdarts_fast.train.presets import train_config


@pytest.mark.parametrize("preset", PRESETS)
def test_the_derived_network_is_the_one_that_training_takes(preset: str) -> None:
    search, train = search_config(preset), train_config(preset)
    assert search.derived_init_channels == train.init_channels
    assert search.derived_layers == train.layers
    assert search.stem == train.stem
    assert search.image_size == train.image_size


def strongest_convolutions() -> SearchNetwork:
    """Whose genotype is of 5x5 separable convolutions, the dearest of all, where it is free."""
    torch.manual_seed(0)
    network = SearchNetwork(4, 10, 1, k=2, in_channels=1, backend="reference")
    for alpha in (network.alphas_normal, network.alphas_reduce):
        alpha.data.normal_()
        alpha.data[:, 5] += 3
    return network


def test_a_genotype_keeps_to_both_ceilings_and_gives_up_as_little_as_it_must() -> None:
    network, digits, config = strongest_convolutions(), load("digits"), search_config("digits")
    config = replace(config, nodes=4)
    free = network.genotype()
    assert {primitive for primitive, _ in free.normal} == {"sep_conv_5x5"}
    cost = derived_cost(config, digits, free)
    # No ceiling binds where the free genotype just fits.
    exact = replace(
        config,
        max_parameters=cost.parameters,
        max_multiply_adds=cost.multiply_adds_published,
    )
    assert network.genotype(ceilings_of(exact, digits)) == free
    for name, attribute in (
        ("max_parameters", "parameters"),
        ("max_multiply_adds", "multiply_adds_published"),
    ):
        # By one too much: the cheapest of all changes is one operation, or one node's edges.
        tight = replace(config, **{name: getattr(cost, attribute) - 1})
        found = network.genotype(ceilings_of(tight, digits))
        assert getattr(derived_cost(tight, digits, found), attribute) < getattr(cost, attribute)
        changed = sum(a != b for a, b in zip(free.normal, found.normal, strict=True))
        changed += sum(a != b for a, b in zip(free.reduce, found.reduce, strict=True))
        assert 1 <= changed <= 2
        half = replace(config, **{name: int(0.8 * getattr(cost, attribute))})
        found = network.genotype(ceilings_of(half, digits))
        assert getattr(derived_cost(half, digits, found), attribute) <= getattr(half, name)


def test_a_search_keeps_to_its_ceiling_and_says_what_its_network_costs(tiny, tmp_path) -> None:
    digits = load("digits")
    config = replace(tiny, epochs=2, nodes=2)
    skips = Genotype(*[(("skip_connect", 0), ("skip_connect", 1)) * 2, (2, 3)] * 2)
    least = derived_cost(config, digits, skips).multiply_adds_published
    config = replace(config, max_multiply_adds=least + 100_000)
    *_, notice, finished = search(config, tmp_path)
    cost = derived_cost(config, digits, finished.genotype)
    assert least <= cost.multiply_adds_published <= least + 100_000
    assert isinstance(notice, Notice) and f"{cost.multiply_adds_published:,}" in notice.text
    assert Genotype.load(tmp_path / "genotype.json") == finished.genotype


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"max_parameters": 1000}, r"--max-parameters 1000: no genotype .* \d+,\d+ parameters"),
        (
            {"max_skips": 0, "primitives": ("none", "skip_connect")},
            "--max-skips 0: no genotype of these candidate operations keeps to all ceilings$",
        ),
    ],
)
def test_a_ceiling_that_nothing_keeps_to_is_refused_before_the_first_epoch(
    tiny, tmp_path, settings, wanted
) -> None:
    with pytest.raises(UserError, match=wanted):
        list(search(replace(tiny, **settings), tmp_path))
    assert not (tmp_path / "metrics.jsonl").exists()
