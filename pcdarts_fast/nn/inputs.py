"""What cells and edges refuse at their door."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..ops.checks import check_devices, check_even, check_shape


def check_state(x: Tensor, C: int, stride: int) -> None:
    """Raises UserError where x is no state of C channels, or odd at stride 2."""
    check_shape("x", x, C)
    check_even("x", x, stride)


def check_fits(x: Tensor, weights: Tensor, module: nn.Module) -> None:
    """Raises UserError where that is why an edge's candidates have failed as modules: devices
    differ, or x has another dtype than their parameters. Fused operators look themselves.
    """
    own, device = next(module.parameters(), x), x.device.type
    check_devices(x, weights=weights, parameters=own)
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if x.dtype != own.dtype and not casts:
        raise UserError(f"x: got {x.dtype}, wanted {own.dtype} as the parameters")
