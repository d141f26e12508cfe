"""What every test starts from."""

from __future__ import annotations

import os

import pytest

# Before torch loads: idle threads wait instead of spinning, which on a busy machine costs seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--nightly",
        action="store_true",
        help="kill 20 searches instead of 2, fuzz with 100,000 inputs instead of some hundred, and "
        "compile the Triton kernels of all presets",
    )


@pytest.fixture(scope="session")
def nightly(request: pytest.FixtureRequest) -> bool:
    """Whether tests of which more is always better should take hours instead of seconds."""
    return bool(request.config.getoption("--nightly"))
