"""relu_conv_bn keeps torch.library's contract: schema, fake kernel, autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from pcdarts_fast.errors import UserError
from pcdarts_fast.ops import relu_conv_bn, why_not
from pcdarts_fast.ops._registry import kernel
from pcdarts_fast.ops.conv_bn import conv_bn
from pcdarts_fast.testing.tolerances import relative_error

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("stride", "linear"), [(1, False), (2, False), (1, True)])
def test_opcheck(stride: int, linear: bool, training: bool, dtype: torch.dtype) -> None:
    """Of preprocessings, and of the stem, which has no ReLU."""
    check_kernels(stride, linear, False, training, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck_of_a_classifier(dtype: torch.dtype) -> None:
    """It has no batch-norm either."""
    check_kernels(1, True, True, True, dtype)


def in_every_other(values: Tensor) -> Tensor:
    """The same values with gaps between them."""
    return values.repeat_interleave(2)[::2]


def check_kernels(
    stride: int, linear: bool, plain: bool, training: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    wide = torch.promote_types(dtype, torch.float32)
    x = torch.randn(3, 4, 2 * stride, 5 * stride).to(dtype)
    outputs = [3, 2] if stride == 2 else [5]
    weights = [torch.randn(count, 4, 1, 1, dtype=wide) for count in outputs]
    running = (None, None) if training else (torch.rand(5, dtype=wide), torch.rand(5, dtype=wide))
    forward, backward = (kernel(f"relu_conv_bn_{way}", "cpu") for way in ("fwd", "bwd"))
    arguments = (x, weights, *running, stride, 1e-5, linear, plain)
    opcheck(forward, arguments)
    out, _, variance = forward(*arguments)
    variance = variance if training else running[1]
    for needs in [(True, True), (True, False), (False, True)]:
        tail = (stride, 1e-5, training, *needs, linear, plain)
        opcheck(backward, (torch.ones_like(out), x, weights, out, variance, *tail))
    alone = [kernel(f"synchronized_relu_conv_bn_{way}", "cpu") for way in ("fwd", "bwd")]
    opcheck(alone[0], (1, *arguments))
    opcheck(alone[1], (1, torch.ones_like(out), x, weights, out, variance, *tail))


@pytest.mark.parametrize("width", [224, 221, 1100])
@pytest.mark.parametrize("value", [18537.947, 87411.0, 8000.3])
def test_a_large_constant_map_has_no_variance(value: float, width: int) -> None:
    """Its sums round, but a negative variance would be NaN."""
    x, weight = torch.full((1, 1, 224, width), value), torch.ones(1, 1, 1, 1)
    out, mean, variance = relu_conv_bn(x, [weight], stride=1, eps=1e-5, running=None, backend="cpu")
    assert relative_error(mean, torch.tensor([value])) < 1e-6
    assert 0 <= variance.item() < (1e-6 * value) ** 2
    assert out.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1, 512, 512), (2, 1, 300, 301), (1, 1, 3, 5000)])
def test_statistics_of_large_maps_are_exact(shape: tuple[int, ...]) -> None:
    x = 20 + torch.rand(shape)
    _, mean, variance = relu_conv_bn(
        x, [torch.ones(1, 1, 1, 1)], stride=1, eps=1e-5, running=None, backend="cpu"
    )
    assert relative_error(mean, x.double().mean().view(1)) < 1e-7
    assert relative_error(variance, x.double().var(correction=0).view(1)) < 2e-7


@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.bfloat16, in_every_other])
def test_running_statistics_of_any_kind_are_taken(change: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4, 6), torch.randn(5, 3, 1, 1)
    running = [torch.rand(5).bfloat16().float() for _ in range(2)]
    for operator in (
        lambda mean, variance: relu_conv_bn(
            x, [weight], stride=1, eps=1e-5, running=(mean, variance), backend="cpu"
        ),
        lambda mean, variance: conv_bn(
            *(x, weight, torch.ones(5), torch.zeros(5)),
            eps=1e-5,
            running=(mean, variance),
            backend="cpu",
        ),
    ):
        assert torch.equal(operator(*map(change, running))[0], operator(*running)[0])


@pytest.mark.parametrize(
    ("x", "shapes", "message"),
    [
        ((3, 5, 4, 6), [(3, 4, 1, 1), (2, 4, 1, 1)], r"wanted \[B, 4, H, W\]"),
        ((3, 4, 4, 5), [(3, 4, 1, 1), (2, 4, 1, 1)], "wanted even sizes"),
        ((3, 4, 4, 6), [(3, 4, 1, 1), (2, 2, 1, 1)], r"weights\[1\] of 2: got \[2, 2, 1, 1\]"),
        ((3, 4, 4, 6), [(3, 4, 1, 1)], "2 of them for stride 2"),
    ],
)
def test_arguments_that_do_not_fit(
    x: tuple[int, ...], shapes: list[tuple[int, ...]], message: str
) -> None:
    weights = [torch.randn(shape) for shape in shapes]
    with pytest.raises(UserError, match=message):
        relu_conv_bn(torch.randn(x), weights, stride=2, eps=1e-5, running=None, backend="cpu")


def test_a_stride_has_a_kernel() -> None:
    x, weights = torch.randn(2, 4, 9, 9), [torch.randn(3, 4, 1, 1)] * 3
    with pytest.raises(UserError, match="stride: got 3, wanted 1 or 2"):
        relu_conv_bn(x, weights, stride=3, eps=1e-5, running=None, backend="cpu")


@pytest.mark.parametrize("sizes", [(1, 3), (3, 1)])
def test_running_statistics_that_do_not_fit(sizes: tuple[int, int]) -> None:
    running = torch.ones(sizes[0]), torch.ones(sizes[1])
    x, weights = torch.randn(2, 4, 3, 3), [torch.randn(3, 4, 1, 1)]
    with pytest.raises(RuntimeError, match="running statistics of 1 channels, wanted 3"):
        relu_conv_bn(x, weights, stride=1, eps=1e-5, running=running, backend="cpu")


def test_float32_statistics_survive_a_large_mean() -> None:
    """E[z^2] - E[z]^2 would lose all digits here."""
    x = torch.rand(4, 1, 17, 20, generator=torch.Generator().manual_seed(0)) + 100
    weights = [torch.ones(1, 1, 1, 1)]
    _, mean, variance = relu_conv_bn(x, weights, stride=1, eps=1e-5, running=None, backend="cpu")
    for got, wanted in ((mean, x.double().mean()), (variance, x.double().var(correction=0))):
        assert abs(got.double() / wanted - 1) < 1e-6
