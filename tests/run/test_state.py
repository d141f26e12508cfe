"""What every run moves on, from one epoch to the next and through a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from pcdarts_fast.run.processes import Processes
from pcdarts_fast.run.state import RunState


class OneLayer(RunState):
    def kept(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}


def one_layer() -> OneLayer:
    totals = torch.zeros(3, dtype=torch.float64)
    return OneLayer(network=nn.Linear(2, 2), group=Processes(), totals=totals, images="abc")


def test_an_epoch_takes_nothing_over_from_the_one_before():
    state = one_layer()
    state.epochs_done, state.steps_done, state.seconds = 2, 6, 9.5
    state.totals += 1
    state.next_epoch()
    assert (state.epochs_done, state.steps_done, state.seconds) == (3, 0, 0.0)
    assert state.totals.tolist() == [0, 0, 0]


def test_checkpoints_of_earlier_versions_know_neither_images_nor_seconds():
    state, other = one_layer(), one_layer()
    checkpoint = state.checkpoint() | {"epoch": 4, "step": 1}
    del checkpoint["images"], checkpoint["seconds"]
    other.restore(checkpoint)
    assert (other.epochs_done, other.steps_done, other.seconds) == (4, 1, 0.0)
    assert torch.equal(other.network.weight, state.network.weight)
