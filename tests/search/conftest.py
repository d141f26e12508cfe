"""A search that is small enough to run whole in a second or two."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import search_config


@pytest.fixture
def tiny() -> SearchConfig:
    """Six steps an epoch, five epochs, the first of them with a frozen architecture."""
    return replace(
        search_config("digits"),
        init_channels=4,
        k=2,
        layers=3,
        nodes=1,
        primitives=("none", "skip_connect", "sep_conv_3x3"),
        epochs=5,
        frozen_epochs=1,
        batch_size=48,
        train_fraction=0.2,
        valid_fraction=0.2,
        device="cpu",
    )
