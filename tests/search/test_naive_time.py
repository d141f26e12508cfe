"""The naive time of a search: what is timed and what is left in the run folder."""

import json
from dataclasses import replace

import pytest

from pcdarts_fast.report.read import read_run
from pcdarts_fast.search import naive_time, search


@pytest.mark.parametrize(("most_bytes", "images"), [(1, [2, 4]), (2**40, [48])])
def test_as_many_images_as_naive_has_room_for(tiny, tmp_path, monkeypatch, most_bytes, images):
    monkeypatch.setattr(naive_time, "MOST_BYTES", most_bytes)
    for _ in search(replace(tiny, epochs=1, frozen_epochs=0, backend="cpu"), tmp_path / "run"):
        pass
    naive_time.time_against_naive(tmp_path / "run")
    timed = read_run(tmp_path / "run", "run").naive
    assert timed is not None and timed.images == images
    assert timed.seconds > 0 and timed.naive_seconds > 0


def test_a_batch_takes_a_constant_and_a_share_for_every_image():
    assert naive_time._of_a_batch([4, 8], [1.5, 2.5], 64) == 0.5 + 64 * 0.25
    assert naive_time._of_a_batch([4, 8], [2.5, 2.0], 64) == 2.0  # a disturbed measurement
    assert naive_time._of_a_batch([64], [3.0], 64) == 3.0


def test_a_naive_search_is_compared_with_nothing(tiny, tmp_path):
    for _ in search(
        replace(tiny, epochs=1, frozen_epochs=0, backend="reference"), tmp_path / "run"
    ):
        pass
    naive_time.time_against_naive(tmp_path / "run")
    assert not (tmp_path / "run" / "naive.json").exists()


def test_it_changes_nothing_else(tiny, tmp_path):
    for _ in search(replace(tiny, epochs=1, frozen_epochs=0, backend="cpu"), tmp_path / "run"):
        pass
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    naive_time.time_against_naive(tmp_path / "run")
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert set(json.loads(after.pop("naive.json"))) == {"images", "seconds", "naive_seconds"}
    assert after == before
