"""Number formats of a step: float32, or 16 bits for activations with float32 weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Precision:
    """How the steps of one optimizer compute.

    fp16 has a small range: the loss is scaled up so that gradients do not vanish, and a step whose
    gradients overflow is left out (`torch.amp.GradScaler`). fp32 changes nothing.
    """

    def __init__(self, name: str = "fp32", device: str = "cpu") -> None:
        self.dtype = DTYPES[name]
        self.device = device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def forward(self, network: Callable[[Tensor], Any], images: Tensor) -> Any:
        """`network(images)` in this format; images [B, C, H, W] and logits are float32."""
        if self.dtype == torch.float32:
            return network(images)
        with torch.autocast(self.device, self.dtype):
            return _widened(network(images.to(self.dtype)))

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, still scaled."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: Optimizer, grad_clip: float | None) -> None:
        """One step of `optimizer`, all its gradients together of norm `grad_clip` at most."""
        self.scaler.unscale_(optimizer)
        if grad_clip is not None:
            clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], grad_clip)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The scale and what moves it; empty but for fp16."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes over the `state_dict` of the same format."""
        own = self.scaler.state_dict()
        if set(saved) != set(own) or any(type(saved[name]) is not type(own[name]) for name in own):
            raise ValueError("state of another --precision")
        if own:
            self.scaler.load_state_dict(saved)


def _widened(output: Any) -> Any:
    if isinstance(output, tuple):
        return tuple(_widened(item) for item in output)
    return output.float() if isinstance(output, Tensor) else output
