"""What every test starts from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from pcdarts_fast.run.openmp import wait_briefly

wait_briefly()  # before torch loads
# Before a kernel runs: memory that it has not written yet holds NaN.
os.environ["PCDARTS_NAN_FILL"] = "1"
# Jobs that a script starts with "&" begin with Ctrl-C ignored; the programs tested here do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Machines may be busy: how long an example takes says nothing.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nightly",
        action="store_true",
        help="kill 20 searches instead of 2, fuzz with 105,000 inputs instead of some hundred, and "
        "compile the Triton kernels of all presets",
    )


@pytest.fixture(scope="session")
def nightly(request: pytest.FixtureRequest) -> bool:
    """Whether tests of which more is always better should take hours instead of seconds."""
    return bool(request.config.getoption("--nightly"))


@pytest.fixture
def hang_ups() -> Iterator[None]:
    """SIGHUP is heard, also where nohup has the tests ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def simulator() -> str:
    """The library that runs the CUDA kernels on the CPU (_build/simulator.py), up to date."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if not shutil.which("cmake", path=path):
        pytest.skip("no cmake: run pip install cmake")
    script = Path(__file__).resolve().parents[1] / "_build" / "simulator.py"
    built = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-8000:]
    return built.stdout.strip()
