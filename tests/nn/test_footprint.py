"""What a super-net would keep for backward is what it does keep, and needs no computing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.footprint import kept_for_backward, saved_bytes
from pcdarts_fast.nn.search_network import SearchNetwork
from pcdarts_fast.ops import why_not

SMALL: dict[str, Any] = {"C": 8, "num_classes": 10, "layers": 3, "nodes": 2}


@pytest.mark.parametrize(
    ("memory", "sampling"), [("recompute", "shuffle"), ("store", "shuffle"), ("store", "random")]
)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_equals_what_is_kept(backend: str, memory: str, sampling: str) -> None:
    if why_not(backend):
        pytest.skip(str(why_not(backend)))
    options = SMALL | {"backend": backend, "memory": memory, "sampling": sampling}
    net = SearchNetwork(**options)
    x = torch.randn(256, 3, 16, 16)
    really = saved_bytes(lambda: net(x), exclude=[*net.parameters(), *net.buffers()]) // 256
    assert kept_for_backward((3, 16, 16), **options) == really


def test_what_cannot_be_built() -> None:
    with pytest.raises(UserError, match="unknown primitive"):
        kept_for_backward((3, 16, 16), **SMALL, primitives=("none", "mine"))
