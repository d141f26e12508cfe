"""The clock of an epoch, by a clock that stands where it is put."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pcdarts_fast.run import pace
from pcdarts_fast.run.pace import Pace


def test_images_are_those_of_all_processes_and_seconds_those_of_all_parts(monkeypatch):
    now = 100.0
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: now))
    clock = Pace(before=3.0, steps=10, processes=4)
    now = 107.0
    assert clock.seconds() == 10
    assert clock.images_per_second(torch.tensor([0.5, 7.0, 30.0])) == 4 * 30 / 10


@pytest.mark.parametrize(("steps", "reports"), [(1, 1), (6, 6), (99, 49), (100, 50), (1000, 50)])
def test_a_long_epoch_is_not_reported_step_by_step(steps, reports):
    clock = Pace(before=0.0, steps=steps, processes=1)
    assert sum(clock.is_due(done) for done in range(1, steps + 1)) == reports
