"""The channel tables, and the index maths of csrc/partial_mix/math.h itself, through pybind11."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pcdarts_fast.ops import channel_tables

native = pytest.importorskip("pcdarts_fast._native", reason="no compiled kernels").partial_mix

widths = st.integers(1, 6).flatmap(
    lambda k: st.tuples(st.integers(1, 8).map(k.__mul__), st.just(k))
)


def place(cat: torch.Tensor, destination: tuple[int, ...]) -> torch.Tensor:
    out = torch.empty_like(cat)
    out[:, list(destination)] = cat
    return out


@given(widths)
def test_shuffle_is_channel_shuffle(width):
    C, k = width
    source, destination = channel_tables(C, k)
    cat = torch.arange(C).view(1, C, 1, 1)
    assert source == tuple(range(C))
    assert torch.equal(place(cat, destination), F.channel_shuffle(cat, k))


@given(widths)
def test_shift_puts_the_bypass_first(width):
    C, k = width
    source, destination = channel_tables(C, k, "shift")
    cat = torch.arange(C).view(1, C, 1, 1)
    assert source == tuple(range(C))
    assert torch.equal(place(cat, destination), torch.cat([cat[:, C // k :], cat[:, : C // k]], 1))


@given(widths, st.randoms())
def test_random_keeps_every_channel_at_its_place(width, random):
    C, k = width
    permutation = random.sample(range(C), C)
    source, destination = channel_tables(C, k, "random", permutation)
    x = torch.arange(C).view(1, C, 1, 1)
    assert source[: C // k] == tuple(permutation[: C // k])
    assert torch.equal(place(x[:, list(source)], destination), x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 4), "k: got k=4 for C=10"),
        ((8, 0), "k: got k=0 for C=8"),
        ((8, 4, "swap"), "'shuffle', 'shift' or 'random': got 'swap'"),
        ((4, 2, "random"), "permutation goes with"),
        ((4, 2, "shift", [0, 1, 2, 3]), "permutation goes with"),
        ((4, 2, "random", [0, 1, 1, 3]), r"0..3 once each: got \[0, 1, 1, 3\]"),
    ],
)
def test_bad_tables(arguments, message):
    with pytest.raises(ValueError, match=message):
        channel_tables(*arguments)


@given(st.integers(0, 5), st.integers(1, 40))
def test_units_are_the_planes_once_each(batch, channels):
    units = [native.plane_index(unit, channels) for unit in range(batch * channels)]
    assert units == [(b, q) for b in range(batch) for q in range(channels)]


values = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 1.0, math.inf, math.nan]) | st.floats()


@given(st.lists(values, min_size=4, max_size=4))
def test_window_winner_is_torch_max_pool(window):
    pooled, index = F.max_pool2d(
        torch.tensor(window, dtype=torch.float64).view(1, 1, 2, 2), 2, return_indices=True
    )
    value, winner = native.window_winner(*window)
    torch.testing.assert_close(value, pooled.item(), rtol=0, atol=0, equal_nan=True)
    assert winner == index.item()
