"""Inside the simulator's process (test_simulator.py starts it): its library, loaded."""

from __future__ import annotations

import os

import torch

if SIMULATOR := os.environ.get("PCDARTS_SIMULATOR"):
    torch.ops.load_library(SIMULATOR)
