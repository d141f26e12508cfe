"""relu_conv_bn as Triton kernels: the functions have the signatures of its schemas."""

from __future__ import annotations

from .launches import backward as backward
from .launches import forward as forward
from .launches import synchronized_backward as synchronized_backward
from .launches import synchronized_forward as synchronized_forward
