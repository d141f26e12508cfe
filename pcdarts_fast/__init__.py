"""PC-DARTS with fused operators: the search of Xu et al. (ICLR 2020) without its copies."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .nn.derived import DerivedNetwork
    from .nn.mixed_op import FusedPartialMixedOp
    from .nn.search_network import SearchNetwork
    from .space import Genotype

__all__ = ["DerivedNetwork", "FusedPartialMixedOp", "Genotype", "SearchNetwork"]

_HOME = {
    "DerivedNetwork": ".nn.derived",
    "FusedPartialMixedOp": ".nn.mixed_op",
    "Genotype": ".space",
    "SearchNetwork": ".nn.search_network",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `pcdarts --help` does not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
