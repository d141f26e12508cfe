from __future__ import annotations

import pytest

from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.testing.tiny_search import TINY


@pytest.fixture
def tiny() -> SearchConfig:
    return TINY
