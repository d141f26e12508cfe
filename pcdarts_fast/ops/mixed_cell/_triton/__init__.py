"""mixed_cell as Triton kernels: the functions have the signatures of its schemas."""

from __future__ import annotations

from .backward import backward as backward
from .backward import synchronized_backward as synchronized_backward
from .forward import forward as forward
from .forward import synchronized_forward as synchronized_forward
