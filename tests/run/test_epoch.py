"""A look at images that are kept out of the steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from pcdarts_fast.run.epoch import mean_of
from pcdarts_fast.run.folder import RunFolder
from pcdarts_fast.run.opened import Run
from pcdarts_fast.run.stop import never
from pcdarts_fast.testing.run_state import state_of


def test_a_look_at_kept_images_changes_nothing_and_can_be_stopped(tmp_path):
    network = nn.BatchNorm1d(2)
    state = state_of(network)
    state.totals += 1
    run = Run(RunFolder(tmp_path), state.group, "cpu", False, never)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logits = []

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits.append(network(images))
        return logits[-1]

    batches = [(torch.tensor([[5.0, 1.0]]), torch.tensor([label])) for label in (0, 1, 0)]
    seen = mean_of(run, state, batches, forward)
    assert seen is not None and seen[1] == 2 / 3
    assert not any(output.requires_grad for output in logits)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert state.totals.tolist() == [1, 1, 1]
    assert mean_of(replace(run, stop=lambda: True), state, batches, forward) is None
    assert len(logits) == 4
