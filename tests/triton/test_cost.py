"""Bytes and launches of a cell, counted from the real loads and stores of the interpreted kernels.

A program's bytes are the distinct addresses that it loads, plus those that it stores: what it must
fetch from beyond its own cache, halos of neighbouring tiles included. The naive side is PyTorch's
operators, each of which is taken to read and write its tensors once (`testing.costs.Traffic`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pcdarts_fast.ops._registry import INTERPRETED
from pcdarts_fast.testing.costs import MOST_OF_NAIVE, cell_costs

pytestmark = pytest.mark.skipif(
    not INTERPRETED, reason="runs in Triton's interpreter: test_interpreter.py starts it"
)


@dataclass
class Tally:
    launches: int = 0
    bytes: int = 0
    program: Any = None
    touched: dict[str, list[np.ndarray]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def touch(self, program: Any, kind: str, addresses: np.ndarray, size: int) -> None:
        if program != self.program:
            self.close_program()
            self.program = program
        key = f"{kind}{size}"
        self.sizes[key] = size
        self.touched.setdefault(key, []).append(addresses)

    def close_program(self) -> None:
        for key, addresses in self.touched.items():
            self.bytes += self.sizes[key] * len(np.unique(np.concatenate(addresses)))
        self.touched = {}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tally]:
    """Counts the launches of kernels, and what their programs load and store."""
    from triton.runtime import interpreter

    tally = Tally()
    builder = interpreter.interpreter_builder
    load, store = type(builder).create_masked_load, type(builder).create_masked_store
    execute = interpreter.GridExecutor.__call__

    def note(kind: str, pointers: Any, mask: Any) -> None:
        valid = np.broadcast_to(mask.data.astype(bool), pointers.data.shape)
        size = pointers.get_element_ty().primitive_bitwidth // 8
        program = tally.launches, *builder.grid_idx
        tally.touch(program, kind, pointers.data[valid].reshape(-1), size)

    def counted_load(self: Any, pointers: Any, mask: Any, *rest: Any, **named: Any) -> Any:
        note("load", pointers, mask)
        return load(self, pointers, mask, *rest, **named)

    def counted_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        note("store", pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def counted_launch(self: Any, *arguments: Any, **named: Any) -> Any:
        tally.launches += 1
        return execute(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(type(builder), "create_masked_load", counted_load)
        patch.setattr(type(builder), "create_masked_store", counted_store)
        patch.setattr(interpreter.GridExecutor, "__call__", counted_launch)
        yield tally
        tally.close_program()


@pytest.mark.parametrize(("C", "size", "reduction"), [(16, 16, False), (16, 16, True)])
def test_bytes_and_launches_of_a_cell(
    C: int, size: int, reduction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    naive = cell_costs("reference", C, size, reduction)
    with counted(monkeypatch) as tally:

        def so_far() -> tuple[int, int]:
            tally.close_program()
            return tally.launches, tally.bytes

        fused = cell_costs("triton", C, size, reduction, so_far)
    for way in fused:
        for what in fused[way]:
            print(f"{way} {what}: {fused[way][what]:,} of {naive[way][what]:,}")
    for what, most in MOST_OF_NAIVE.items():
        got, wanted = (sum(cost[way][what] for way in cost) for cost in (fused, naive))
        assert got <= most * wanted, what
