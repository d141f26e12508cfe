"""Damaged images: each is told of once."""

from __future__ import annotations

from pcdarts_fast.run.damaged import Damaged
from pcdarts_fast.run.events import Notice
from pcdarts_fast.run.processes import Processes


def test_an_image_is_named_once_however_often_it_is_met():
    damaged = Damaged(skip=True)
    assert damaged.paths is not None
    told = []
    for found in (["a", "b"], [], ["c"]):
        damaged.paths += found
        told.append(list(damaged.notices(Processes())))
    assert [len(notices) for notices in told] == [2, 0, 1]
    assert told[2] == [Notice("image c is damaged and was left out")]
