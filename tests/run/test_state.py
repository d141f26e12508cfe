"""What every run moves on, from one epoch to the next and through a checkpoint."""

from __future__ import annotations

import pytest
from torch import nn

from pcdarts_fast.errors import UserError
from pcdarts_fast.testing.run_state import state_of


def test_an_epoch_takes_nothing_over_from_the_one_before():
    state = state_of(nn.Linear(2, 2))
    state.epochs_done, state.steps_done, state.seconds = 2, 6, 9.5
    state.totals += 1
    state.next_epoch()
    assert (state.epochs_done, state.steps_done, state.seconds) == (3, 0, 0.0)
    assert state.totals.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", state_of(nn.Linear(2, 2)).checkpoint())
def test_a_checkpoint_without_one_of_its_parts_is_refused(name):
    state = state_of(nn.Linear(2, 2))
    checkpoint = state.checkpoint()
    del checkpoint[name]
    with pytest.raises(UserError, match=f"the checkpoint is none of this run .*{name}"):
        state.restore(checkpoint)
