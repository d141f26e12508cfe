"""conv_bn against PyTorch's convolution and batch-norm, and what its arguments may be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pcdarts_fast.errors import UserError
from pcdarts_fast.ops import conv_bn, why_not

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))

EPS = 1e-5


def arguments(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 6, 5), (4, 2, 3, 3), (4,), (4,)]  # x, weight, gamma, beta
    tensors = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients(training: bool, memory_format: torch.memory_format) -> None:
    """Whatever the layout of the upstream gradient."""
    x, weight, gamma, beta = inputs = arguments()
    running = torch.rand(4, dtype=x.dtype), torch.rand(4, dtype=x.dtype) + 0.5
    given = None if training else running
    out, mean, variance = conv_bn(x, weight, gamma, beta, eps=EPS, running=given, backend="cpu")
    z = F.conv2d(x, weight, padding=1)
    wanted = F.batch_norm(z, running[0], running[1], gamma, beta, training, 0, EPS)
    grad = torch.randn(out.shape, dtype=x.dtype).to(memory_format=memory_format)
    gradients = torch.autograd.grad(out, inputs, grad)
    for got, expected in zip(gradients, torch.autograd.grad(wanted, inputs, grad), strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(out, wanted)
    if training:
        torch.testing.assert_close(mean, z.mean((0, 2, 3)))
        torch.testing.assert_close(variance, z.var((0, 2, 3), correction=0))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 4, 6, 5), "got [3, 4, 6, 5], wanted [B, 2, H, W]"),
        (torch.zeros(2, 6, 5), "got [2, 6, 5], wanted [B, 2, H, W]"),
        (torch.zeros(0, 2, 6, 5), "without empty sizes"),
        (torch.zeros(3, 2, 6, 5, dtype=torch.float16), "got torch.float16"),
    ],
)
def test_images_that_do_not_fit(x: Tensor, message: str) -> None:
    with pytest.raises(UserError) as caught:
        conv_bn(x, *arguments(torch.float32)[1:], eps=EPS, running=None, backend="cpu")
    assert message in str(caught.value)
