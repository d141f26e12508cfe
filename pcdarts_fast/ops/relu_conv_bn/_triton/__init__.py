"""relu_conv_bn as Triton kernels: `forward` and `backward` have the signatures of its schemas."""

from __future__ import annotations

from .launches import backward as backward
from .launches import forward as forward
