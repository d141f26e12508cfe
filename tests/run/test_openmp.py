"""Waiting threads spin a little, then sleep, unless the user wants something else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pcdarts_fast.run.openmp import SPINS, wait_briefly

OURS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(SPINS)}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, OURS),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ],
)
def test_what_the_user_has_set_stays(
    given: dict[str, str], wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(given)
    monkeypatch.setattr(os, "environ", environment)
    wait_briefly()
    assert environment == wanted


def test_a_command_tells_openmp_before_it_loads() -> None:
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    done = subprocess.run(
        [sys.executable, "-m", "pcdarts_fast", "info"],
        env={**clean, "OMP_DISPLAY_ENV": "verbose"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    told = done.stderr.splitlines()
    if not any("GOMP_" in line for line in told):
        pytest.skip("PyTorch's OpenMP library is not GNU's")
    for name, value in OURS.items():
        lines = [line.upper() for line in told if name in line]
        assert lines and all(f"{name} = '{value.upper()}'" in line for line in lines)
