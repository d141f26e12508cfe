"""What each step moves, what it leaves alone, and the second-order gradient against calculus."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pcdarts_fast import SearchNetwork
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.processes import Processes
from pcdarts_fast.search.hessian import ITERATIONS, dominant_eigenvalue
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.search.unrolled import unrolled_gradient


@pytest.fixture
def network() -> SearchNetwork:
    torch.manual_seed(0)
    primitives = ("none", "skip_connect", "sep_conv_3x3")
    return SearchNetwork(4, 3, 3, k=2, nodes=1, primitives=primitives, in_channels=1)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 6, 1, 8, 8, generator=generator)
    labels = torch.randint(3, (2, 6), generator=generator)
    return list(zip(images, labels, strict=True))


def sgd(network, **changes):
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 3e-4}
    return torch.optim.SGD(network.weight_parameters(), **(settings | changes))


def copies(parameters):
    return [parameter.detach().clone() for parameter in parameters]


def moved(parameters, before) -> list[bool]:
    return [not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)]


def test_weight_step_computes_no_architecture_gradient(network, batches):
    weights, arch = copies(network.weight_parameters()), copies(network.arch_parameters())
    loss, right, images = weight_step(network, sgd(network), batches[0], grad_clip=5).tolist()
    assert all(parameter.grad is None for parameter in network.arch_parameters())
    assert not any(moved(network.arch_parameters(), arch))
    assert all(moved(network.weight_parameters(), weights))
    assert loss > 0 and 0 <= right <= images == 6


def test_architecture_step_computes_no_weight_gradient(network, batches):
    weights, arch = copies(network.weight_parameters()), copies(network.arch_parameters())
    optimizer = torch.optim.Adam(network.arch_parameters(), lr=6e-3)
    architecture_step(network, optimizer, batches[0], grad_clip=None)
    assert all(parameter.grad is None for parameter in network.weight_parameters())
    assert not any(moved(network.weight_parameters(), weights))
    # A cell of one node has two edges, so every alpha and beta takes part.
    assert all(moved(network.arch_parameters(), arch))


@pytest.mark.parametrize("change", [copy.deepcopy, lambda network: network.to("meta")])
def test_weights_that_took_the_place_of_others_are_frozen_too(network, change):
    with network.learning("architecture"):
        pass
    other = change(network)
    with other.learning("architecture"):
        assert not any(parameter.requires_grad for parameter in other.weight_parameters())
        assert all(parameter.requires_grad for parameter in other.arch_parameters())
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_gradients_are_clipped_together(network, batches):
    weight_step(network, sgd(network), batches[0], grad_clip=1e-3)
    norms = torch.stack([p.grad.norm() for p in network.weight_parameters()])
    assert norms.norm() == pytest.approx(1e-3, rel=1e-3)
    optimizer = torch.optim.Adam(network.arch_parameters(), lr=6e-3)
    architecture_step(network, optimizer, batches[0], grad_clip=1e-5)
    norms = torch.stack([p.grad.norm() for p in network.arch_parameters()])
    assert norms.norm() == pytest.approx(1e-5, rel=1e-1)


def test_unrolled_gradient_leaves_the_network_as_it_was(network, batches):
    optimizer = sgd(network)
    weight_step(network, optimizer, batches[0], grad_clip=5)
    before = copies(network.state_dict().values())
    gradients = unrolled_gradient(network, optimizer, *batches)
    assert not any(moved(network.state_dict().values(), before))
    assert [g.shape for g in gradients] == [p.shape for p in network.arch_parameters()]


def test_unrolled_gradient_leaves_the_optimizer_as_it_was(network, batches):
    """Also one that remembers nothing, as SGD without momentum does."""
    optimizer = torch.optim.SGD(network.weight_parameters(), lr=0.1)
    unrolled_gradient(network, optimizer, *batches)
    assert not optimizer.state


def test_unrolled_step_moves_the_architecture_elsewhere_than_the_first_order(network, batches):
    optimizer = sgd(network)
    before = copies(network.arch_parameters())
    steps = []
    for unrolled in (None, (optimizer, batches[0], Processes())):
        with torch.no_grad():
            for parameter, value in zip(network.arch_parameters(), before, strict=True):
                parameter.copy_(value)
        arch_optimizer = torch.optim.SGD(network.arch_parameters(), lr=1.0)
        architecture_step(network, arch_optimizer, batches[1], grad_clip=None, unrolled=unrolled)
        steps.append(torch.cat([p.detach().flatten() for p in network.arch_parameters()]))
    assert (steps[0] - steps[1]).norm() > 1e-6


class SmoothNetwork(nn.Module):
    """Three smooth operations mixed by softmax(alpha): small enough to differentiate twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first = nn.Linear(4, 5, dtype=torch.float64)
        self.second = nn.Linear(5, 3, dtype=torch.float64)
        self.alpha = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(self, x):
        h = self.first(x)
        mixed = torch.stack([h.tanh(), h.sigmoid(), h]).mul(self.alpha.softmax(0)[:, None, None])
        return self.second(mixed.sum(0))

    def weight_parameters(self):
        return [*self.first.parameters(), *self.second.parameters()]

    def arch_parameters(self):
        return [self.alpha]

    @contextmanager
    def learning(self, what):
        yield


@pytest.mark.parametrize("steps_before", [0, 2])
def test_unrolled_gradient_is_the_derivative_through_the_weight_step(steps_before):
    """The finite difference against autograd through w' itself, with momentum and weight decay."""
    network = SmoothNetwork()
    optimizer = sgd(network, weight_decay=0.05)
    data = torch.randn(2, 20, 4, dtype=torch.float64)
    train, valid = ((x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()) for x in data)
    for _ in range(steps_before):
        weight_step(network, optimizer, train, grad_clip=100)

    names = [name for name, _ in network.named_parameters() if name != "alpha"]
    weights = dict(zip(names, network.weight_parameters(), strict=True))

    def loss(values, batch):
        return F.cross_entropy(functional_call(network, values, batch[0]), batch[1])

    gradients = torch.autograd.grad(loss(weights, train), weights.values(), create_graph=True)
    after = {}
    for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
        buffer = optimizer.state[weight].get("momentum_buffer", torch.zeros_like(weight))
        after[name] = weight - 0.1 * (gradient + 0.05 * weight + 0.9 * buffer)
    (exact,) = torch.autograd.grad(loss(after, valid), [network.alpha])
    there = {name: value.detach() for name, value in after.items()}
    (first_order,) = torch.autograd.grad(loss(there, valid), [network.alpha])

    (result,) = unrolled_gradient(network, optimizer, train, valid)
    assert (result - exact).norm() <= 1e-4 * (exact - first_order).norm()


@pytest.mark.parametrize("gradient", ["unrolled", "hessian"])
def test_a_difference_of_gradients_is_of_one_choice_of_channels(batches, gradient, monkeypatch):
    """With random sampling every pass would else be another function."""
    torch.manual_seed(0)
    network = SearchNetwork(
        4, 3, 3, k=2, nodes=1, primitives=("none", "sep_conv_3x3"), in_channels=1, sampling="random"
    )
    drawn: list[tuple[int, ...]] = []

    def randperm(count: int, **options: str) -> torch.Tensor:
        order = original(count, **options)
        drawn.append(tuple(order.tolist()))
        return order

    original = torch.randperm
    monkeypatch.setattr(torch, "randperm", randperm)
    if gradient == "unrolled":
        unrolled_gradient(network, sgd(network), *batches)
        passes = 4
    else:
        dominant_eigenvalue(network, batches[0])
        passes = 2 * ITERATIONS
    cells = len(network.cells)
    assert len(set(drawn[:cells])) > 1
    assert drawn == drawn[:cells] * passes


def test_only_weights_and_architecture_can_learn(network):
    with pytest.raises(UserError, match="learning: got 'weight', wanted one of weights, architec"):
        network.learning("weight").__enter__()
