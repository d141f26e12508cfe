"""Candidate operations as modules: the same gradients in every memory format."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.nn.operations import OPERATIONS
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import coarse_images, training_pass


class Candidate(nn.Module):
    """Named, as a training pass wants it."""

    def __init__(self, name: str, C: int) -> None:
        super().__init__()
        self.op = OPERATIONS[name](C, 2, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


CASES = product([name for name in OPERATIONS if name != "none"], (2, 4, 7, 8))


@pytest.mark.parametrize(("name", "C"), [*CASES, ("skip_connect", 1)])
def test_channels_last(name: str, C: int) -> None:
    """The first channels of a wider state. Left to itself, torch 2.14.1 gets skip_connect of 2 and
    4 channels wrong (AVX2), and writes beyond its memory where it is one.
    """
    torch.manual_seed(0)
    module = Candidate(name, C)
    x = coarse_images(8, C, 10, 10)
    wanted = training_pass(copy.deepcopy(module).double(), [x])
    x = x.float().repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)[:, :C]
    got = training_pass(module, [x])
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert relative_error(got[key], value) < 1e-4, key
