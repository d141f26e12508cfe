"""Golden vectors: float64 results of the published code, one .npz file a case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .training_pass import Results


def load_golden(path: Path) -> tuple[dict[str, Any], Results]:
    """What the case was made with, and its tensors by name, such as "x" and "grad/_ops.1.op.1"."""
    with np.load(path) as file:
        vectors = {key: torch.tensor(file[key]) for key in file.files if key != "meta"}
        return json.loads(str(file["meta"])), vectors


def under(vectors: Results, prefix: str) -> Results:
    """Those whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in vectors.items() if k.startswith(prefix)}
