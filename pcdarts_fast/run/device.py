"""Where a run computes."""

from __future__ import annotations

import torch

from ..errors import UserError


def pick_device(name: str) -> str:
    """ "cuda" or "cpu" for "auto"; otherwise `name`.

    Raises:
        UserError: "cuda" without a GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu")
    return ("cuda" if available else "cpu") if name == "auto" else name
