"""Loss and accuracy: summed exactly, whatever the logits are."""

from __future__ import annotations

import math

import pytest
import torch

from pcdarts_fast.run.tally import means, tally


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tally_is_a_sum_in_float64(dtype):
    logits = torch.tensor([[3.0, 1.0], [0.5, 2.0], [1.0, -1.0]], dtype=dtype)
    sums = tally(logits, torch.tensor([0, 1, 1]))
    assert sums.dtype == torch.float64
    loss = sum(math.log1p(math.exp(-margin)) for margin in (2, 1.5, -2))
    assert sums.tolist() == pytest.approx([loss, 2, 3], rel=1e-14)
    assert means(2 * sums, 0) == pytest.approx((loss / 3, 2 / 3), rel=1e-14)
