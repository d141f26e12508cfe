"""The GPU engines in networks: golden vectors, a search step, no host in between, CUDA graphs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.testing.golden import load_golden, under
from pcdarts_fast.testing.tolerances import relative_error
from pcdarts_fast.testing.training_pass import Results, coarse_images
from pcdarts_fast.testing.twins import twins

pytestmark = pytest.mark.gpu
GOLDEN = Path(__file__).parents[1] / "golden"
FEW = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")  # for quick interpreted steps


def networks(engine: Any, layers: int, **options: Any) -> tuple[SearchNetwork, SearchNetwork]:
    reference, fused = twins(
        lambda name: SearchNetwork(4, 3, layers, nodes=2, backend=name, **options), engine.backend
    )
    return reference.double(), fused.to(engine.device)


def super_net_step(net: nn.Module, x: Tensor) -> Results:
    logits = net(x)
    F.cross_entropy(logits, torch.arange(len(x), device=x.device) % 3).backward()
    results = {"out": logits.detach()}
    results |= {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    return results | {n: b.double() for n, b in net.named_buffers()}


def test_golden_super_net(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, the whole net takes minutes: there only the first cell runs on the engine, in
    one tile, since every program costs time; the others run as modules. Else all of it does."""
    meta, vectors = load_golden(GOLDEN / "net_c8_l3.npz")
    interpreted = (engine.backend, engine.device) == ("triton", "cpu")
    backend = "reference" if interpreted else engine.backend
    net = SearchNetwork(meta["C"], 10, meta["layers"], backend=backend)
    if interpreted:
        forward = import_module("pcdarts_fast.ops.mixed_cell._triton.forward")
        monkeypatch.setattr(forward, "tile_of", lambda channels: (512, 8))
        net.cells[0].backend = engine.backend
    net.load_state_dict(under(vectors, "state/") | under(vectors, "arch/"))
    net.to(engine.device)
    logits = net(vectors["x"].to(engine.device, torch.float32))
    F.cross_entropy(logits, vectors["y"].to(engine.device)).backward()
    assert relative_error(logits.cpu(), vectors["logits"]) < 1e-5
    gradients = under(vectors, "grad/") | under(vectors, "grad_arch/")
    assert {n for n, _ in net.named_parameters()} == set(gradients)
    for parameter, value in net.named_parameters():
        assert relative_error(value.grad.cpu(), gradients[parameter]) < 1e-4, parameter
    # some means are next to 0, as in tests/nn/test_golden.py
    for name, value in under(vectors, "state_after/").items():
        assert relative_error(net.state_dict()[name].cpu(), value) < 1e-4, name


def test_super_net(engine: Any) -> None:
    reference, fused = networks(engine, 2)
    x = coarse_images(3, 3, 8, 8)
    wanted = super_net_step(reference, x)
    got = super_net_step(fused, x.to(engine.device, torch.float32))
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        bar = 1e-5 if name == "out" or "running" in name else 1e-4
        assert relative_error(got[name].cpu(), value) < bar, name


def test_a_search_step(engine: Any) -> None:
    states = []
    for net, dtype in zip(
        networks(engine, 1, primitives=FEW), (torch.float64, torch.float32), strict=True
    ):
        device = next(net.parameters()).device
        batch = coarse_images(3, 3, 4, 4).to(device, dtype), torch.arange(3, device=device)
        architecture = torch.optim.SGD(net.arch_parameters(), 0.1)
        weights = torch.optim.SGD(net.weight_parameters(), 0.1)
        architecture_step(net, architecture, batch, grad_clip=None)
        assert all(p.grad is None for p in net.weight_parameters())
        weight_step(net, weights, batch, grad_clip=5.0)
        states.append({name: p.detach().cpu() for name, p in net.named_parameters()})
    for name, value in states[0].items():
        assert relative_error(states[1][name], value) < 1e-5, name


class NoHostRoundTrips(TorchDispatchMode):
    """Refuses what a CUDA graph cannot capture: reading a value, sizes that depend on values,
    copies between devices, and tensors made from Python numbers (a copy from the host)."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "lift_fresh",
        "lift_fresh_copy",
        "_pin_memory",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        assert name not in self.FORBIDDEN, f"{func} in a step"
        out = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_"):
            devices = {t.device for t in (out, *args) if isinstance(t, Tensor)}
            assert len(devices) == 1, f"{func} between {devices}"
        return out


@pytest.mark.parametrize("what", ["weights", "architecture"])
def test_a_step_never_waits_for_the_host(engine: Any, what: str) -> None:
    _, net = networks(engine, 1, primitives=FEW)
    x = coarse_images(3, 3, 4, 4).to(engine.device, torch.float32)
    labels = torch.arange(3, device=engine.device)

    def step() -> None:
        F.cross_entropy(net(x), labels).backward()

    with net.learning(what):
        step()  # compiles, and copies channel tables once
        with NoHostRoundTrips():
            step()


def test_the_mode_that_refuses_host_round_trips_does() -> None:
    with NoHostRoundTrips():
        for call in (lambda: torch.ones(1).item(), lambda: torch.tensor([1.0, 2.0])):
            with pytest.raises(AssertionError, match="in a step"):
                call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_step_in_a_cuda_graph(engine: Any) -> None:
    torch.use_deterministic_algorithms(False)
    _, net = networks(engine, 3)
    static = torch.randn(8, 3, 16, 16, device=engine.device)
    labels = torch.arange(8, device=engine.device) % 3

    def step() -> None:
        net.zero_grad(set_to_none=True)
        F.cross_entropy(net(static), labels).backward()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    graph.replay()
    captured = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    step()
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter.grad, captured[name]), name
