"""mixed_cell as Triton kernels: `forward` and `backward` have the signatures of its schemas."""

from __future__ import annotations

from .forward import forward as forward
from .backward import backward as backward
