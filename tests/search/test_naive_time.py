"""The naive time of a search: what is timed and what is left in the run folder."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.report.read import read_run
from pcdarts_fast.search import naive_time, search
from pcdarts_fast.search.naive_time import of_a_batch, time_against_naive


@pytest.fixture
def run(tiny, tmp_path) -> Path:
    """A search of one epoch, in the folder of a GPU's run: a record of it names the GPU."""
    config = replace(tiny, epochs=1, frozen_epochs=0, backend="cpu")
    folder = tmp_path / "run"
    for _ in search(config, folder):
        pass
    records = json.loads((folder / "environment.json").read_text())
    records[-1]["device"] = "NVIDIA H100 80GB HBM3"
    (folder / "environment.json").write_text(json.dumps(records))
    return folder


@pytest.fixture
def by_the_book(monkeypatch):
    """Steps that take 0.5 s and 0.25 s an image, naive ones twice as long; naive keeps 1 byte.

    The first of four is faster, and does not count; the others are up to three times as slow.
    """
    rounds = defaultdict(lambda: cycle((0.5, 3.0, 1.0, 2.0)))

    def step(self: naive_time._Step, batch: tuple) -> float:
        seconds = (0.5 + 0.25 * len(batch[0])) * next(rounds[self])
        return 2 * seconds if self.network.backend == "reference" else seconds

    monkeypatch.setattr(naive_time._Step, "__call__", step)
    monkeypatch.setattr(naive_time, "_kept_by_naive", lambda config: 1)


def test_a_batch_is_timed_and_nothing_else_changes(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    time_against_naive(run)
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert set(json.loads(after.pop("naive.json"))) == {"images", "seconds", "naive_seconds"}
    assert after == before
    timed = read_run(run, "run").naive
    assert timed is not None and timed.images == [48]
    assert timed.seconds > 0 and timed.naive_seconds > 0


@pytest.mark.parametrize(("room", "images"), [(48, [48]), (47, [23, 47]), (4, [2, 4])])
def test_fewer_images_tell_of_a_batch_that_does_not_fit(
    run, by_the_book, monkeypatch, room, images
):
    monkeypatch.setattr(naive_time, "MOST_BYTES", room)
    time_against_naive(run)
    timed = read_run(run, "run").naive
    assert timed is not None and timed.images == images and timed.times == 2
    assert timed.seconds == 0.5 + 48 * 0.25


def test_several_processes_are_timed_with_the_share_of_one(run, by_the_book):
    records = json.loads((run / "environment.json").read_text())
    records[-1]["processes"] = 4
    (run / "environment.json").write_text(json.dumps(records))
    time_against_naive(run)
    timed = read_run(run, "run").naive
    assert timed is not None and timed.images == [12]


def test_without_room_and_when_stopped_nothing_is_left(run, by_the_book, monkeypatch):
    time_against_naive(run, stop=lambda: True)
    monkeypatch.setattr(naive_time, "MOST_BYTES", 3)
    time_against_naive(run)
    assert not (run / "naive.json").exists()


def test_a_run_that_went_on_naively_is_compared_with_nothing(run, by_the_book):
    time_against_naive(run)
    records = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(
        json.dumps([*records, records[-1] | {"backend": "reference"}])
    )
    time_against_naive(run)
    assert not (run / "naive.json").exists()


def test_without_an_environment_there_is_nothing_to_compare_with(run, by_the_book):
    (run / "environment.json").write_text("[{")
    with pytest.raises(UserError, match=r"environment\.json is damaged; take it away"):
        time_against_naive(run)
    (run / "environment.json").unlink()
    time_against_naive(run)
    assert not (run / "naive.json").exists()


def test_a_busy_machine_tells_nothing():
    assert of_a_batch([4, 8], [1.5, 2.5], 64) == 0.5 + 64 * 0.25
    assert of_a_batch([4, 8], [2.5, 2.0], 64) is None
    assert of_a_batch([64], [3.0], 64) == 3.0
