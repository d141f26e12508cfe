"""Fused against naive: checked, then timed in turns; a table of ratios and saved bytes at the end.

    pytest benchmarks/ --benchmark-only                         the table
    pytest benchmarks/ --benchmark-only --benchmark-json=F      and every measurement, as JSON

A row is one call of the fixture `compare` (test_operators.py shows how) or `compare_modules`. A
ratio is the median of the naive time over the median of the fused time; the two are run in turns,
so that a machine that slows down slows both. In turns of one call each finds the caches as the
other left them; in turns of several (`calls`), as it left them itself. Saved bytes are what
autograd keeps between forward and backward. What is no comparison of two calls goes into a table of
its own by `tabulate`.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

from pcdarts_fast.nn.footprint import saved_bytes
from pcdarts_fast.testing.cases import leaves
from pcdarts_fast.testing.tolerances import relative_error, tolerance
from pcdarts_fast.testing.twins import twins

ROUNDS = 15


@dataclass
class Row:
    milliseconds: dict[str, tuple[float, float]] = field(default_factory=dict)  # naive, fused
    saved: tuple[int, int] = (0, 0)  # bytes
    family: str | None = None


ROWS = pytest.StashKey[dict[str, Row]]()
TABLES = pytest.StashKey[dict[str, list[list[str]]]]()  # by title; the first row is the head


class Compare(Protocol):
    def __call__(
        self,
        name: str,
        fused: Callable[[], Tensor],
        naive: Callable[[], Tensor],
        inputs: Sequence[Tensor],
        *,
        naive_inputs: Sequence[Tensor] | None = None,
        limit: float | None = None,
        kept: Sequence[Tensor] = (),
        rounds: int = ROUNDS,
        calls: int = 1,
        family: str | None = None,
    ) -> None: ...


@pytest.fixture(params=["forward", "forward+backward"])
def direction(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def compare(benchmark: Any, direction: str, request: pytest.FixtureRequest) -> Compare:
    """Adds a row: checks fused against naive in outputs and gradients, then times both.

    Args:
        name: of the row; its forward and forward+backward share one.
        fused, naive: give the output; both compute the same.
        inputs: the tensors whose gradients are taken.
        naive_inputs: the same of the naive side, where it is a module of its own.
        limit: of the check, norm of the difference over norm; None: the operators' tolerance.
        kept: tensors that live on anyway, not counted among the saved bytes.
        rounds: measurements of each; fewer for what takes seconds.
        calls: of each in a turn; a measurement is their mean.
        family: of rows whose least ratio and geometric mean go below the table.
    """

    def run(
        name: str,
        fused: Callable[[], Tensor],
        naive: Callable[[], Tensor],
        inputs: Sequence[Tensor],
        *,
        naive_inputs: Sequence[Tensor] | None = None,
        limit: float | None = None,
        kept: Sequence[Tensor] = (),
        rounds: int = ROUNDS,
        calls: int = 1,
        family: str | None = None,
    ) -> None:
        out = fused()
        generator = torch.Generator(out.device).manual_seed(0)
        grad = torch.randn(out.shape, generator=generator, dtype=out.dtype, device=out.device)

        def step(call: Callable[[], Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
            out = call()
            if direction == "forward":
                return [out]
            return [out, *torch.autograd.grad(out, inputs, grad)]

        def naive_step() -> list[Tensor]:
            return step(naive, inputs if naive_inputs is None else naive_inputs)

        wanted_limit = tolerance(grad.dtype)["rtol"] if limit is None else limit
        for got, wanted in zip(step(fused, inputs), naive_step(), strict=True):
            error = relative_error(got, wanted)
            assert error <= wanted_limit, f"{name}: wrong by {error:.1e}, so no ratio of it"

        naive_seconds: list[float] = []

        def naive_in_turn() -> None:
            start = time.perf_counter()
            for _ in range(calls):
                naive_step()
            naive_seconds.append((time.perf_counter() - start) / calls)

        def fused_turn() -> None:
            for _ in range(calls):
                step(fused, inputs)

        benchmark.group = name
        benchmark.pedantic(fused_turn, setup=naive_in_turn, rounds=rounds, warmup_rounds=1)
        row = request.config.stash[ROWS].setdefault(name, Row(family=family))
        row.saved = saved_bytes(naive, exclude=kept), saved_bytes(fused, exclude=kept)
        benchmark.extra_info.update(naive_saved_bytes=row.saved[0], fused_saved_bytes=row.saved[1])
        if benchmark.stats:  # none with --benchmark-disable
            medians = (
                1e3 * statistics.median(naive_seconds[-rounds:]),
                1e3 * benchmark.stats.stats.median / calls,
            )
            row.milliseconds[direction] = medians
            benchmark.extra_info.update(naive_median_ms=medians[0], ratio=medians[0] / medians[1])
            benchmark.extra_info["calls"] = calls  # in what pytest-benchmark calls one round

    return run


@pytest.fixture
def compare_modules(compare: Compare) -> Callable[..., None]:
    """Adds a row of two modules with the same parameters, fused and naive.

    Args:
        name, limit, rounds, calls, family: as in `compare`.
        make: gives the module on a backend.
        arguments: of a call, by name; gradients are taken of the ones that require them and of the
            parameters that `learnt(module)` gives.
    """

    def run(
        name: str,
        make: Callable[[str], nn.Module],
        arguments: dict[str, Any],
        *,
        limit: float,
        rounds: int = ROUNDS,
        calls: int = 1,
        family: str | None = None,
        learnt: Callable[[Any], Sequence[Tensor]] = lambda module: list(module.parameters()),
    ) -> None:
        naive, fused = twins(make)
        shared = leaves(arguments)
        given = [value for value in arguments.values() if isinstance(value, Tensor)]
        compare(
            name,
            fused=lambda: fused(**arguments),
            naive=lambda: naive(**arguments),
            inputs=[*shared, *learnt(fused)],
            naive_inputs=[*shared, *learnt(naive)],
            limit=limit,
            rounds=rounds,
            calls=calls,
            family=family,
            kept=[t for m in (fused, naive) for t in (*m.parameters(), *m.buffers())] + given,
        )

    return run


@pytest.fixture
def tabulate(request: pytest.FixtureRequest) -> Callable[..., None]:
    """tabulate(title, name, head=value, ...) adds a row to the table `title`."""

    def add(title: str, name: str, **cells: str) -> None:
        head = ["", *(key.replace("_", " ") for key in cells)]
        request.config.stash[TABLES].setdefault(title, [head]).append([name, *cells.values()])

    return add


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}
    config.stash[TABLES] = {}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for title, table in config.stash[TABLES].items():
        terminalreporter.section(title)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for name, *cells in table:
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            terminalreporter.line("  ".join([name.ljust(widths[0]), *aligned]))
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section("fused against naive")
    terminalreporter.line(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; "
        f"medians, naive / fused"
    )
    width = max(map(len, rows))
    terminalreporter.line(
        f"{'':{width}}  {'forward, ms':>23}  {'forward+backward, ms':>23}  {'saved, KiB':>25}"
    )
    for name, row in rows.items():
        cells = [
            _cell(*row.milliseconds[direction], digits=2) if direction in row.milliseconds else ""
            for direction in ("forward", "forward+backward")
        ]
        saved = _cell(row.saved[0] / 1024, row.saved[1] / 1024, digits=0)
        terminalreporter.line(f"{name:{width}}  {cells[0]:>23}  {cells[1]:>23}  {saved:>25}")
    for family, ratios in _family_ratios(rows.values()).items():
        terminalreporter.line(
            f"{family}, forward+backward: least {min(ratios):.1f}x, "
            f"geometric mean {statistics.geometric_mean(ratios):.1f}x"
        )


def _family_ratios(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Naive over fused, forward and backward, by family."""
    ratios: dict[str, list[float]] = {}
    for row in rows:
        if row.family is not None and "forward+backward" in row.milliseconds:
            naive, fused = row.milliseconds["forward+backward"]
            ratios.setdefault(row.family, []).append(naive / fused)
    return ratios


def _cell(naive: float, fused: float, digits: int) -> str:
    ratio = f"{naive / fused:.1f}x" if naive < 1000 * fused else ">999x"  # an edge keeps its input
    return f"{naive:.{digits}f} / {fused:.{digits}f} {ratio:>6}"
