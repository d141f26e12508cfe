"""A cell's preprocessing on a backend, as a module of its own."""

from __future__ import annotations

from torch import Tensor, nn

from ..nn.fused import run_preprocess
from ..nn.operations import FactorizedReduce, ReLUConvBN
from ..nn.watched import Watched


class Preprocess(nn.Module):
    """[B, C_in, H, W] -> [B, C, H/stride, W/stride]."""

    def __init__(self, stride: int, backend: str, C_in: int = 5, C: int = 8) -> None:
        super().__init__()
        self.module = (FactorizedReduce if stride == 2 else ReLUConvBN)(C_in, C, affine=False)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        return run_preprocess(self.module, Watched([self.module]), x, self.backend)
