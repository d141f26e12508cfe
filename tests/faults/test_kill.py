"""Searches killed at random points, also while a checkpoint is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_killed_anywhere_a_search_ends_as_if_never_killed(nightly: bool) -> None:
    count = 20 if nightly else 2
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kill.py")), str(count), "1"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} searches end like" in done.stdout
