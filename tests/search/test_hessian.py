"""The eigenvalue against the Hessian itself, and that measuring moves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from pcdarts_fast import SearchNetwork
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.search import search
from pcdarts_fast.search.hessian import dominant_eigenvalue


def test_eigenvalue_is_that_of_the_whole_hessian(monkeypatch):
    # So short that no ReLU changes sides between the ends of a difference.
    monkeypatch.setattr("pcdarts_fast.search.hessian.STEP", 1e-7)
    torch.manual_seed(0)
    primitives = ("skip_connect", "max_pool_3x3", "sep_conv_3x3")
    network = SearchNetwork(
        4, 3, 3, k=2, nodes=1, primitives=primitives, in_channels=1, backend="reference"
    ).double()
    for parameter in network.arch_parameters():
        parameter.data.normal_()
    images, labels = torch.randn(12, 1, 8, 8).double(), torch.randint(3, (12,))
    before = {name: value.clone() for name, value in network.state_dict().items()}

    loss = F.cross_entropy(network(images), labels)
    arch = network.arch_parameters()
    gradients = torch.autograd.grad(loss, arch, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, arch, retain_graph=True)])
        for value in flat
    ]
    eigenvalues = torch.linalg.eigvalsh(torch.stack(rows))
    wanted = eigenvalues[eigenvalues.abs().argmax()]

    network.load_state_dict(before)
    got = dominant_eigenvalue(network, (images, labels))
    assert got == pytest.approx(float(wanted), rel=0.02)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_measuring_changes_no_search(tiny, tmp_path):
    config = replace(tiny, epochs=2)
    for hessian in (False, True):
        list(search(replace(config, hessian=hessian), tmp_path / str(hessian)))
    plain, measured = (tmp_path / str(hessian) for hessian in (False, True))
    assert (plain / "architecture.jsonl").read_bytes() == (
        measured / "architecture.jsonl"
    ).read_bytes()
    assert all("arch_hessian" in line for line in read_lines(measured / "metrics.jsonl"))
