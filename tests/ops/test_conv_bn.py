"""conv_bn against PyTorch's convolution and batch-norm, and what its arguments may be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pcdarts_fast.errors import UserError
from pcdarts_fast.ops import conv_bn, why_not
from pcdarts_fast.testing.tolerances import relative_error

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


def test_bfloat16_images_of_float32_weights() -> None:
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        x, *parameters = arguments()
        x = x.detach().bfloat16().to(dtype).requires_grad_()
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        parameters = [p.detach().to(wide).requires_grad_() for p in parameters]
        out, _, _ = conv_bn(x, *parameters, eps=EPS, running=None, backend="cpu")
        grads = torch.autograd.grad(out.float().pow(2).mul(out.detach()).sum(), [x, *parameters])
        found.append([out, *grads])
    for wanted, got in zip(*found, strict=True):
        assert relative_error(got, wanted) < 3e-2


@pytest.mark.parametrize("asked_for", range(4))
def test_only_what_is_asked_for_gets_a_gradient(asked_for: int) -> None:
    inputs = [tensor.requires_grad_(False) for tensor in arguments()]
    inputs[asked_for].requires_grad_()
    x, weight, gamma, beta = inputs
    out, _, _ = conv_bn(x, weight, gamma, beta, eps=EPS, running=None, backend="cpu")
    wanted = F.batch_norm(F.conv2d(x, weight, padding=1), None, None, gamma, beta, True, 0, EPS)
    got, expected = (torch.autograd.grad(o.pow(3).sum(), inputs[asked_for]) for o in (out, wanted))
    torch.testing.assert_close(got, expected)


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
