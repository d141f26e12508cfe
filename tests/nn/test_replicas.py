"""What nn.DataParallel makes of a network: shallow copies with tensors of their own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import replicate

from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.nn.stem import Stem
from pcdarts_fast.testing.tolerances import relative_error


def replicas_of(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Two, by PyTorch's own code; that which sends tensors to GPUs makes copies here, the second
    one half as large."""

    def copies(
        tensors: Sequence[Tensor], devices: Sequence[int], detach: bool = False
    ) -> list[list[Tensor]]:
        return [[t * 0.5**number for t in tensors] for number in devices]

    namespace = replicate.__globals__
    monkeypatch.setitem(namespace, "_broadcast_coalesced_reshape", copies)
    monkeypatch.setitem(namespace, "_get_device_index", lambda device, _: device)
    found: list[nn.Module] = replicate(network, [0, 1])
    return found


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_a_replica_computes_with_its_own_weights(
    stem: Stem, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = SearchNetwork(4, 5, 3, stem=stem, backend="auto").double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    net(images)  # the fused modules have looked at their leaves
    replica = replicas_of(net, monkeypatch)[1]
    wanted_net = SearchNetwork(4, 5, 3, stem=stem, backend="reference").double()
    halved = {name: (t * 0.5).to(t.dtype) for name, t in net.state_dict().items()}
    wanted_net.load_state_dict(halved)

    got, wanted = replica(images), wanted_net(images)
    assert relative_error(got, wanted) < 1e-9
    got.pow(2).sum().backward()
    wanted.pow(2).sum().backward()
    for (name, p), q in zip(net.named_parameters(), wanted_net.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None, name
        assert relative_error(p.grad, 0.5 * q.grad) < 1e-8, name
