"""What every run moves on, from one epoch to the next and through a checkpoint."""

from __future__ import annotations

import torch
from torch import nn

from pcdarts_fast.testing.run_state import state_of


def test_an_epoch_takes_nothing_over_from_the_one_before():
    state = state_of(nn.Linear(2, 2))
    state.epochs_done, state.steps_done, state.seconds = 2, 6, 9.5
    state.totals += 1
    state.next_epoch()
    assert (state.epochs_done, state.steps_done, state.seconds) == (3, 0, 0.0)
    assert state.totals.tolist() == [0, 0, 0]


def test_checkpoints_of_earlier_versions_know_neither_images_nor_seconds():
    state, other = (state_of(nn.Linear(2, 2), images="abc") for _ in range(2))
    checkpoint = state.checkpoint() | {"epoch": 4, "step": 1}
    del checkpoint["images"], checkpoint["seconds"]
    other.restore(checkpoint)
    assert (other.epochs_done, other.steps_done, other.seconds) == (4, 1, 0.0)
    assert torch.equal(other.network.weight, state.network.weight)
