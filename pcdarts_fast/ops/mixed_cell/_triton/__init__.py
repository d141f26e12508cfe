"""mixed_cell as Triton kernels: `forward` and `backward` have the signatures of its schemas."""

from __future__ import annotations

from .backward import backward as backward
from .forward import forward as forward
