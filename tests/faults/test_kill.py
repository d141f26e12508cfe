"""Searches killed at random points, also while a checkpoint is written."""

from __future__ import annotations

from pathlib import Path

from pcdarts_fast.testing.tiny_search import start


def test_killed_anywhere_a_search_ends_as_if_never_killed(nightly: bool) -> None:
    count = 20 if nightly else 2
    process = start([str(Path(__file__).with_name("kill.py")), str(count), "1"])
    printed, errors = process.communicate()
    assert process.returncode == 0, printed + errors
    assert f"{count} searches end like" in printed
