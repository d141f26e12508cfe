"""The fused operators: one folder an operator, with its schema and its backends."""

from ._registry import BACKENDS as BACKENDS
from ._registry import device_type as device_type
from ._registry import direct as direct
from ._registry import resolve as resolve
from ._registry import why_not as why_not
from .channels import channel_tables as channel_tables
from .conv_bn import conv_bn as conv_bn
from .mixed_cell import mixed_cell as mixed_cell
from .partial_mix import partial_mix as partial_mix
from .relu_conv_bn import relu_conv_bn as relu_conv_bn
