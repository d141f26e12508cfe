"""What a super-net would keep for its backward pass, found out without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from .search_network import SearchNetwork


def kept_for_backward(image: tuple[int, int, int], **arguments: Any) -> int:
    """Bytes of activations that autograd keeps between forward and backward, an image.

    `image` is (channels, height, width), `arguments` are those of `SearchNetwork`. The forward
    pass runs on tensors without data, in float32, on a batch as large as a search's; every storage
    counts once, parameters and buffers do not. What kernels allocate and free again in between is
    not seen.

    Raises:
        UserError: the super-net cannot be built, or not for such images.
    """
    B = 256  # statistics, alpha and beta are kept once a batch: of a few images they are a tenth
    with FakeTensorMode():
        network = SearchNetwork(in_channels=image[0], **arguments)
        own = [*network.parameters(), *network.buffers()]
        return saved_bytes(lambda: network(torch.empty(B, *image)), exclude=own) // B


def saved_bytes(forward: Callable[[], Tensor], exclude: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps between forward and backward, every storage counted once.

    Storages of `exclude` (parameters, inputs that live on anyway) do not count.
    """
    known = {_storage(tensor) for tensor in exclude}
    kept: dict[int, Tensor] = {}  # which keeps them alive: no storage is taken for another

    def pack(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    sizes = [t.untyped_storage().nbytes() for key, t in kept.items() if key not in known]
    return sum(sizes)


def _storage(tensor: Tensor) -> int:
    # A tensor without data has no address.
    return int(tensor.untyped_storage()._cdata)
