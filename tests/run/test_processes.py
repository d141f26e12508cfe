"""What a process of several decides alone; the rest is in tests/distributed."""

from __future__ import annotations

import pytest
import torch

from pcdarts_fast.errors import UserError
from pcdarts_fast.run.processes import Processes


@pytest.mark.parametrize(("size", "fits"), [(4, True), (6, True), (5, False), (2, False)])
def test_every_process_takes_two_images_or_more_of_a_batch(size, fits):
    if fits:
        Processes(0, 2).check_batch(size)
        return
    with pytest.raises(UserError, match=f"--batch-size is {size}, for all 2 processes"):
        Processes(0, 2).check_batch(size)


def test_sums_of_another_number_of_processes_count_once():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert [Processes(rank, 3).own_row(rows).tolist() for rank in range(3)] == rows.tolist()
    assert [Processes(rank, 2).own_row(rows).tolist() for rank in range(2)] == 2 * [[4.5, 6.0]]
