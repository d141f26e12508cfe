"""Detects that a user replaced, hooked or froze a module that a fused operator computes uncalled.

Such modules are called from then on, so that the change has its effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import nn

from .synchronized import SynchronizedBatchNorm2d


class Watched:
    """Remembers how modules were built, and looks again after `stale` has been set.

    Their owner sets it in `train`, so that a change counts from the next call of train() or eval()
    on: looking at every call would take longer than small states do to compute.
    """

    convolutions: list[nn.Conv2d]
    norms: list[nn.BatchNorm2d]

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._built = described(modules)
        self._find_leaves(modules)
        self.stale = True
        self._intact = True

    def __getstate__(self) -> dict[str, object]:
        """Copies look again: tools that copy a module change the copy."""
        return self.__dict__ | {"stale": True}

    def _find_leaves(self, modules: Sequence[nn.Module]) -> None:
        leaves = [leaf for module in modules for leaf in module.modules()]
        self.convolutions = [leaf for leaf in leaves if isinstance(leaf, nn.Conv2d)]
        self.norms = [leaf for leaf in leaves if isinstance(leaf, nn.BatchNorm2d)]

    def runs_fused(self, backend: str, modules: Sequence[nn.Module], training: bool) -> bool:
        """Whether the engine of `backend` computes in the place of the modules: where they compute
        what they were built for, all in one mode. A tracer looks at every trace.
        """
        if backend == "reference":
            return False
        if torch.compiler.is_compiling():
            return look(self, *modules) and self._agree(training)
        if "_is_replica" in modules[0].__dict__:
            return False  # of nn.DataParallel: the leaves found are those that it was copied from
        if self.stale:
            self._intact = look(self, *modules) and self._agree(training)
            self.stale = False
        return self._intact

    def _agree(self, training: bool) -> bool:
        """Whether all batch-norms have this mode and one momentum: engines move them as one."""
        if not self.norms:
            return True
        momentum = self.norms[0].momentum
        return momentum is not None and all(
            norm.training == training and norm.momentum == momentum for norm in self.norms
        )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def look(watched: Watched, *modules: nn.Module) -> bool:
    """Finds the leaves that there are now; whether the modules are still those that were built."""
    watched._find_leaves(modules)
    return described(modules) == watched._built


def described(modules: Iterable[nn.Module]) -> list[object]:
    """All that decides what modules compute, but for parameters, buffers, momentum and mode."""
    found: list[object] = []
    for root in modules:
        for name, module in root.named_modules():
            settings: object = module.extra_repr()
            kind: type = type(module)
            if kind in (nn.BatchNorm2d, SynchronizedBatchNorm2d):
                kind = nn.BatchNorm2d
                settings = module.num_features, module.eps, module.track_running_stats
            elif kind is nn.AvgPool2d:  # what its extra_repr leaves out
                pool = cast(nn.AvgPool2d, module)
                settings = settings, pool.ceil_mode, pool.count_include_pad, pool.divisor_override
            held = (*module._parameters.items(), *module._buffers.items())
            tensors = [key for key, value in held if value is not None]
            found.append((name, kind, settings, tensors, is_hooked(module)))
    return found


def is_hooked(module: nn.Module) -> bool:
    """Whether it must be called, for the sake of its hooks or of another `forward` in its place."""
    return bool(
        "forward" in module.__dict__
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
