"""Number formats: what a network sees and gives, and steps that do not depend on a scale."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdarts_fast.run.precision import DTYPES, Precision


@pytest.mark.parametrize("name", DTYPES)
def test_a_network_sees_its_format_and_gives_float32(name):
    seen = []

    def network(images):
        seen.append(images.dtype)
        return images.flatten(1), None

    logits, nothing = Precision(name).forward(network, torch.ones(2, 1, 2, 2))
    assert seen == [DTYPES[name]]
    assert logits.dtype == torch.float32 and nothing is None


@pytest.mark.parametrize("name", DTYPES)
def test_gradients_are_clipped_as_they_are_and_not_as_they_were_scaled(name):
    weight = nn.Parameter(torch.zeros(2))
    precision, optimizer = Precision(name), torch.optim.SGD([weight], lr=1.0)
    precision.backward((weight * torch.tensor([3.0, 4.0])).sum())
    precision.step(optimizer, grad_clip=1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8]))


def test_only_fp16_has_a_scale_and_takes_no_other_state():
    assert [bool(Precision(name).state_dict()) for name in DTYPES] == [False, False, True]
    scaled = Precision("fp16").state_dict()
    for name, state in (("fp32", scaled), ("fp16", {}), ("fp16", scaled | {"scale": "1"})):
        with pytest.raises(ValueError, match="state of another --precision"):
            Precision(name).load_state_dict(state)
