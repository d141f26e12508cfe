"""The CPU engine in a super-net: same bits for any threads, eval mode, a full state dict."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not
from pcdarts_fast.testing.threads import with_threads
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import coarse_images

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_everything_is_in_the_state_dict(backend: str) -> None:
    wanted = FusedPartialMixedOp(8, 1, backend=backend)
    with torch.device("meta"):
        edge = FusedPartialMixedOp(8, 1, backend=backend)
    edge.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in itertools.chain(edge.parameters(), edge.buffers()):
            tensor.fill_(3)  # whatever the empty memory might have held
    edge.load_state_dict(wanted.state_dict())
    x, alpha = torch.randn(2, 8, 6, 6), torch.randn(8).softmax(0)
    assert torch.equal(edge(x, alpha), wanted(x, alpha))


def test_super_net_has_the_same_bits_for_any_threads() -> None:
    torch.manual_seed(0)
    net = SearchNetwork(8, 10, 3, backend="cpu")
    x, target = coarse_images(17, 3, 8, 8, dtype=torch.float32), torch.arange(17) % 10

    def step() -> dict[str, Tensor]:
        copied = copy.deepcopy(net)
        nn.functional.cross_entropy(copied(x), target).backward()
        gradients = {f"grad/{n}": p.grad for n, p in copied.named_parameters()}
        return copied.state_dict() | gradients

    first, *others = with_threads(step)
    for other in others:
        for name, value in first.items():
            assert torch.equal(other[name], value), name


def test_a_channel_without_variance_comes_out_as_zero() -> None:
    """A 3x3 pool of a 2x2 map has one value; batch-norm takes 316 times what rounding leaves."""
    edge = FusedPartialMixedOp(8, 1, primitives=("max_pool_3x3", "avg_pool_3x3"), backend="cpu")
    out = edge(100 + torch.rand(1, 8, 2, 2), torch.tensor([1.0, 0.0]))
    mixed = out.unflatten(1, (2, 4))[:, :, 0]  # first of every group of the shuffle
    assert torch.equal(mixed, torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize("seed", range(3))
def test_a_single_small_image_in_float32(seed: int) -> None:
    """Of the eager modules the logits are five times as far from float64."""
    torch.manual_seed(seed)
    net = SearchNetwork(18, 7, 4, k=6, nodes=2, backend="cpu")
    x, exact = torch.randn(1, 3, 8, 8), copy.deepcopy(net).double()
    assert relative_error(net(x), exact(x.double())) < 3e-6


def test_stem_and_classifier_in_eval_mode() -> None:
    torch.manual_seed(0)
    reference = SearchNetwork(4, 3, 2, backend="reference").double()
    fused = SearchNetwork(4, 3, 2, backend="cpu").double()
    x = coarse_images(5, 3, 8, 12)
    reference(x)  # moves the running statistics
    fused.load_state_dict(reference.state_dict())
    assert relative_error(fused.eval()(x), reference.eval()(x)) < 1e-9
