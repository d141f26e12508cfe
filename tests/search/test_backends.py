"""One seed, two backends: the CPU engine searches as the eager modules do.

The whole search is compared in float64. In float32 rounding decides sooner or later which side of
zero a ReLU's input falls, and from there on two correct searches are different ones
(docs/design.md, section Determinism), so there only the first steps are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from pcdarts_fast.ops import why_not
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search import EpochDone, Finished, Progress, search
from pcdarts_fast.testing.outcome import of

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))


@pytest.fixture
def small() -> SearchConfig:
    """Nine steps an epoch, with all primitives; alpha and beta learn from the first step on."""
    return replace(
        search_config("digits"),
        init_channels=8,
        nodes=2,
        epochs=3,
        frozen_epochs=0,
        batch_size=32,
        train_fraction=0.2,
        valid_fraction=0.2,
        device="cpu",
    )


@pytest.fixture
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64")
def test_whole_search_in_float64(small: SearchConfig, tmp_path: Path) -> None:
    """After 27 steps of each kind the curves were 3e-14 apart, the states 1e-12."""
    curves, genotypes, states = [], [], []
    for backend in ("reference", "cpu"):
        events = list(search(replace(small, backend=backend), tmp_path / backend))
        curves.append(
            [
                (event.metrics["train_loss"], event.metrics["valid_loss"])
                for event in of(EpochDone, events)
            ]
        )
        genotypes.append([event.genotype for event in of(Finished, events)])
        checkpoint = torch.load(tmp_path / backend / "checkpoint.pt", weights_only=True)
        states.append(checkpoint["network"])
    assert genotypes[0] == genotypes[1]
    assert curves[0][-1] < curves[0][0]  # it learns
    for wanted, got in zip(*curves, strict=True):
        assert got == pytest.approx(wanted, rel=1e-11)
    for name, wanted in states[0].items():
        assert torch.allclose(states[1][name], wanted, rtol=1e-10, atol=1e-12), name


def test_first_steps_in_float32(small: SearchConfig, tmp_path: Path) -> None:
    """The loss is a sum of 32 terms each rounded to 6e-8."""
    curves = []
    for backend in ("reference", "cpu"):
        events = search(replace(small, backend=backend), tmp_path / backend)
        steps = (event for event in events if isinstance(event, Progress))
        curves.append([event.loss for event in islice(steps, 5)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)
