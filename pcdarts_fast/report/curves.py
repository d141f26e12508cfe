"""Losses, accuracies and entropies of a run over its epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..run.config import SearchConfig
from ..space import CELL_INPUTS, PRIMITIVES
from .charts import Curve, chart, span
from .read import Run


@dataclass(frozen=True)
class Plot:
    """A chart with its legend: name, number of the colour, and last value of every curve."""

    title: str
    note: str
    legend: list[tuple[str, int, str]]
    picture: Markup


@dataclass(frozen=True)
class _Kind:
    title: str
    series: tuple[tuple[str, str], ...]
    """Names in metrics.jsonl and in the legend."""
    percent: bool = False


KINDS = (
    _Kind("Loss", (("train_loss", "train"), ("valid_loss", "validation"), ("test_loss", "test"))),
    _Kind(
        "Accuracy",
        (
            ("train_accuracy", "train"),
            ("valid_accuracy", "validation"),
            ("test_accuracy", "test"),
        ),
        percent=True,
    ),
    _Kind(
        "Entropy of alpha",
        (("alpha_entropy_normal", "normal cell"), ("alpha_entropy_reduce", "reduction cell")),
    ),
    _Kind(
        "Entropy of beta",
        (("beta_entropy_normal", "normal cell"), ("beta_entropy_reduce", "reduction cell")),
    ),
    _Kind("Dominant eigenvalue of the architecture Hessian", (("arch_hessian", "eigenvalue"),)),
)
FIRST_COLOUR = len(PRIMITIVES)
"""Those before are the primitives'."""


def plots(runs: Sequence[Run]) -> list[list[Plot]]:
    """For every run its charts; those of searches share their scales, and so do trainings'."""
    of_runs: list[list[Plot]] = [[] for _ in runs]
    for kind in KINDS:
        curves = [_curves(run, kind) for run in runs]
        for run, found, own in zip(runs, curves, of_runs, strict=True):
            if found:
                alike = zip(runs, curves, strict=True)
                together = [c for other, its in alike if other.kind == run.kind for c in its]
                own.append(_plot(run, kind, found, span(together)))
    return of_runs


def _curves(run: Run, kind: _Kind) -> list[Curve]:
    found = []
    for number, (key, name) in enumerate(kind.series):
        points = run.series(key)
        if points:
            found.append(Curve(name, points, FIRST_COLOUR + min(number, 1)))
    return found


def _plot(run: Run, kind: _Kind, curves: Sequence[Curve], limits: tuple[float, float]) -> Plot:
    frozen = run.config.frozen_epochs if isinstance(run.config, SearchConfig) else 0
    legend = []
    for curve in curves:
        last = curve.points[-1][1]
        value = f"{last:.2%}" if kind.percent else f"{last:#.4g}".rstrip(".")
        legend.append((curve.name, curve.colour, value))
    picture = chart(
        kind.title,
        curves,
        epochs=max(1, len(run.metrics)),
        frozen=frozen,
        percent=kind.percent,
        limits=limits,
    )
    return Plot(kind.title, _note(run, kind), legend, picture)


def _note(run: Run, kind: _Kind) -> str:
    if not isinstance(run.config, SearchConfig):
        return ""
    if kind.title == "Entropy of alpha":
        choices = len(run.config.primitives)
        return (
            f"Mean over the edges, in nats: {math.log(choices):.3f} is undecided between "
            f"{choices} operations, 0 decided."
        )
    if kind.title == "Entropy of beta":
        nodes = range(CELL_INPUTS, CELL_INPUTS + run.config.nodes)
        undecided = sum(math.log(inputs) for inputs in nodes) / len(nodes)
        return f"Mean over the nodes, in nats: {undecided:.3f} is undecided, 0 decided."
    return ""
