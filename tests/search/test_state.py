"""The super-net and the images must fit; alpha and beta must survive JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError
from pcdarts_fast.ops import _registry
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.search import state
from pcdarts_fast.search.state import check_image_size, new_state


@pytest.mark.parametrize(
    ("preset", "changes", "size", "fits"),
    [
        ("cifar10", {}, 32, True),
        ("cifar10", {}, 28, True),
        ("cifar10", {}, 30, False),
        ("cifar10", {}, 31, False),
        ("cifar10", {"layers": 1}, 30, True),
        ("imagenet", {}, 224, True),
        ("imagenet", {}, 225, False),
        ("imagenet", {}, 192, True),
        ("imagenet", {}, 208, False),
    ],
)
def test_image_size_is_refused_exactly_when_the_super_net_cannot_halve_it(
    preset, changes, size, fits
):
    config = replace(
        search_config(preset), init_channels=4, nodes=1, primitives=("skip_connect",), **changes
    )
    data = replace(load("digits"), image_size=size, num_classes=2)
    images = torch.zeros(1, 1, size, size)
    if fits:
        assert new_state(config, data, "cpu").network.eval()(images).shape == (1, 2)
        return
    with pytest.raises(UserError, match=f"images of {size} pixels .* divisible by"):
        new_state(config, data, "cpu")
    network = new_state(config, replace(data, image_size=224), "cpu").network
    with pytest.raises(ValueError):
        network(images)
    check_image_size(replace(config, layers=1), 224)


@pytest.mark.parametrize(
    ("lacking", "wanted"), [((), "cuda"), (("cuda",), "triton"), (("cuda", "triton"), "reference")]
)
def test_engine_that_cannot_synchronize_is_left_or_refused(monkeypatch, lacking, wanted):
    monkeypatch.setattr(_registry, "why_not", lambda backend: None)  # as on a machine with a GPU
    monkeypatch.setattr(state, "resolve", _registry._resolve.__wrapped__)

    def has_kernel(name: str, backend: str, device: str) -> bool:
        return backend != "cpu" and not (backend in lacking and "synchronized" in name)

    monkeypatch.setattr(_registry, "_has_kernel", has_kernel)
    config = replace(search_config("digits"), sync_batch_norm=True)
    assert state._backend(config, "cuda", False) == "cuda"
    assert state._backend(config, "cuda", True) == wanted
    for backend in ("cuda", "triton", "reference"):
        named = replace(config, backend=backend)
        assert state._backend(named, "cuda", False) == backend
        if backend in lacking:
            with pytest.raises(UserError, match=f"'{backend}' cannot run synchronized_mixed_cell"):
                state._backend(named, "cuda", True)
        else:
            assert state._backend(named, "cuda", True) == backend


def test_architecture_gives_the_same_float32_back():
    config = replace(search_config("digits"), nodes=2, layers=1)
    torch.manual_seed(0)
    made = new_state(config, load("digits"), "cpu")
    for parameter in made.network.arch_parameters():
        assert 0 < parameter.detach().abs().max() < 5e-3  # as drawn
        parameter.data.uniform_(0.1, 0.125)  # where float32 needs all of its digits
    stored = json.loads(json.dumps(made.architecture()))
    for name, parameter in zip(stored, made.network.arch_parameters(), strict=True):
        assert torch.equal(torch.tensor(stored[name]), parameter)


def test_optimizers_and_network_have_the_settings_of_the_search():
    config = replace(
        search_config("digits"),
        **{"nodes": 1, "layers": 1, "primitives": ("skip_connect",)},
        **{"learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.01},
        **{"arch_learning_rate": 0.3, "arch_beta1": 0.4, "arch_beta2": 0.6},
        arch_weight_decay=0.02,
        **{"k": 2, "sampling": "shift", "memory": "store", "edge_normalization": False},
    )
    made = new_state(config, load("digits"), "cpu")
    (weights,), (arch,) = made.optimizer.param_groups, made.arch_optimizer.param_groups
    assert (weights["lr"], weights["momentum"], weights["weight_decay"]) == (0.2, 0.8, 0.01)
    assert (arch["lr"], arch["betas"], arch["weight_decay"]) == (0.3, (0.4, 0.6), 0.02)
    edge = made.network.cells[0]._ops[0]
    assert (edge.k, edge.sampling, edge.memory) == (2, "shift", "store")
    assert made.network.mixing_weights("normal")[1].tolist() == [1, 1]
