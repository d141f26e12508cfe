"""The float64 vectors of the published code: outputs, every gradient, running statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.space import Genotype
from pcdarts_fast.testing.golden import load_golden, under

GOLDEN = Path(__file__).parents[1] / "golden"
EDGES = ("edge_s1_k4", "edge_s2_k4", "edge_s1_k2")
# norm of difference over norm: (one edge forward, backward, super-net forward, backward)
BARS = {torch.float32: (1e-6, 1e-5, 1e-5, 1e-4), torch.float64: (1e-12, 1e-12, 1e-12, 1e-12)}


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got.detach().double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


@pytest.fixture(params=BARS, ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", EDGES)
def test_edge(name: str, backend: str, memory: str, dtype: torch.dtype) -> None:
    forward, backward, _, _ = BARS[dtype]
    meta, vectors = load_golden(GOLDEN / f"{name}.npz")
    edge = FusedPartialMixedOp(
        meta["C"], meta["stride"], k=meta["k"], backend=backend, memory=memory
    ).to(dtype)
    edge.load_state_dict(under(vectors, "state/"))
    x = vectors["x"].to(dtype).clone().requires_grad_()
    alpha = vectors["alpha"].to(dtype).clone().requires_grad_()

    out = edge(x, alpha.softmax(-1))
    out.backward(vectors["grad_out"].to(dtype))

    assert error(out, vectors["out"]) < forward
    assert error(x.grad, vectors["grad_x"]) < backward
    assert error(alpha.grad, vectors["grad_alpha"]) < backward
    gradients = under(vectors, "grad/")
    assert {n for n, _ in edge.named_parameters()} == set(gradients)
    for parameter, value in edge.named_parameters():
        assert error(value.grad, gradients[parameter]) < backward, parameter
    for key, value in under(vectors, "state_after/").items():
        assert error(edge.state_dict()[key], value.double()) < forward, key

    edge.eval()
    assert error(edge(x, alpha.softmax(-1)), vectors["out_eval"]) < forward


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_super_net(backend: str, dtype: torch.dtype) -> None:
    _, _, forward, backward = BARS[dtype]
    meta, vectors = load_golden(GOLDEN / "net_c8_l3.npz")
    net = SearchNetwork(meta["C"], 10, meta["layers"], backend=backend).to(dtype)
    net.load_state_dict({**under(vectors, "state/"), **under(vectors, "arch/")})

    logits = net(vectors["x"].to(dtype))
    loss = F.cross_entropy(logits, vectors["y"])
    loss.backward()

    assert error(logits, vectors["logits"]) < forward
    assert error(loss, vectors["loss"]) < forward
    gradients = {**under(vectors, "grad/"), **under(vectors, "grad_arch/")}
    assert {n for n, _ in net.named_parameters()} == set(gradients)
    for parameter, value in net.named_parameters():
        assert error(value.grad, gradients[parameter]) < backward, parameter
    for key, value in under(vectors, "state_after/").items():
        assert error(net.state_dict()[key], value.double()) < backward, key
    assert net.genotype() == Genotype(**meta["genotype"])


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"num_classes": 10, "k": 4}, 299_578),
        ({"num_classes": 10, "k": 2}, 671_482),
        ({"num_classes": 10, "k": 8}, 178_042),
        ({"num_classes": 1000, "k": 2, "stem": "imagenet"}, 956_512),
    ],
)
def test_published_parameter_counts(arguments: dict[str, Any], count: int) -> None:
    net = SearchNetwork(16, layers=8, **arguments)
    assert sum(p.numel() for p in net.weight_parameters()) == count
    assert sum(p.numel() for p in net.arch_parameters()) == 252
