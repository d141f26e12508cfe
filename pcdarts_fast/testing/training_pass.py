"""One pass forward and backward, and all that it gives."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

Results = dict[str, Tensor]


def coarse_images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Coarse values, so that pool windows often hold their maximum twice."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return ((x * 2).round() / 2 + 0.01 * x.sign()).to(dtype)


def training_pass(module: nn.Module, tensors: Sequence[Tensor], seed: int = 0) -> Results:
    """Of a copy of module(*tensors): "out"; the gradients of the tensors, "input0" and so on, and
    of the parameters, by name; the buffers afterwards, by name, in float64.

    The upstream gradient is the same for any dtype and device. `seed` is that of random sampling.
    """
    module = copy.deepcopy(module)
    tensors = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
    torch.manual_seed(seed)
    out = module(*tensors)
    generator = torch.Generator().manual_seed(1)
    out.backward(torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out))
    results = {"out": out.detach()}
    results |= {f"input{i}": t.grad for i, t in enumerate(tensors) if t.grad is not None}
    weights = [(name, p.grad) for name, p in module.named_parameters() if p.numel()]
    results |= {name: grad for name, grad in weights if grad is not None}
    return results | {name: buffer.double() for name, buffer in module.named_buffers()}
