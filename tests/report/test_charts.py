"""Charts: what stands where, in bold, and under which name."""

from __future__ import annotations

import math
import re

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from pcdarts_fast.report.architecture import movements, softmax
from pcdarts_fast.report.cells import state_name
from pcdarts_fast.report.charts import Curve, chart, leaders, small_chart
from pcdarts_fast.report.read import LARGEST, read_run
from pcdarts_fast.space import edges_into


def test_the_leading_share_is_bold(make_search):
    run = read_run(make_search(spread=1.0), "run")
    sources = [f"from {state_name(state)}" for state in range(4)]
    for kind, movement in zip(("normal", "reduce"), movements(run), strict=True):
        betas = run.betas[kind][-1]
        plots = [
            *((plot, run.config.primitives) for plot in movement.alphas),
            *((plot, sources) for plot in movement.betas),
        ]
        rows = [*run.alphas[kind][-1], *(betas[edges_into(state)] for state in (2, 3))]
        for (plot, names), row in zip(plots, rows, strict=True):
            bold = re.findall(r'<polyline class="[^"]* bold"[^>]*><title>([^<]*)', plot.picture)
            assert bold == [names[row.index(max(row))]]
            assert plot.first.startswith(f"{bold[0]}: ")


def test_what_leads_is_named_with_its_epochs():
    picture = leaders("t", [[0, 0, 1, 0]], ["edge"], {0: "a", 1: "b"})
    told = re.findall(r"<rect[^>]*><title>([^<]*)", picture)
    assert told == ["a, epoch 1 to 2", "b, epoch 3", "a, epoch 4"]


def test_small_charts_say_their_range_however_narrow():
    def ends(low: float, high: float) -> tuple[str, str]:
        curves = [Curve("a", [(1, low), (2, high)], 0), Curve("b", [(1, high), (2, low)], 1)]
        _, lowest, highest = small_chart("edge", curves, epochs=2, frozen=0)
        return lowest, highest

    assert ends(0.1, 0.2) == ("10%", "20%")
    assert ends(0.1248, 0.1252) == ("12.480%", "12.520%")
    assert len(set(ends(0.125, 0.1250001))) == 2
    assert ends(0.5, 0.5)  # no range at all


def test_higher_values_stand_higher_and_later_ones_further_right():
    curves = [Curve("a", [(1, 0.25), (2, 0.5), (3, 0.0)], 0)]
    for picture in (
        chart("t", curves, epochs=3),
        small_chart("t", curves, epochs=3, frozen=0)[0],
    ):
        (points,) = re.findall(r'points="([^"]*)"', picture)
        (x1, y1), (x2, y2), (x3, y3) = (map(float, pair.split(",")) for pair in points.split())
        assert x1 < x2 < x3
        assert y2 < y1 < y3  # SVG counts downwards
        assert y1 - y2 == pytest.approx(y3 - y1, abs=0.2)


def test_shares_of_any_logits_add_up():
    assert softmax([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    assert softmax([1e4, 0.0]) == [1.0, 0.0]


@settings(deadline=None)
@given(st.lists(st.floats(-LARGEST, LARGEST), max_size=6), st.booleans())
@example([0.0, 5e-324], False)
@example([1e15, 1e15 + 0.125], True)
def test_any_numbers_can_be_drawn(values, percent):
    curves = [Curve("a", list(enumerate(values, 1)), 0)]
    for picture in (
        chart("t", curves, epochs=len(values), percent=percent),
        small_chart("t", curves, epochs=len(values), frozen=0)[0],
    ):
        assert not re.search(r"\b(nan|inf)\b", picture)
        assert picture.count("<text") < 30
        for x, y in re.findall(r"(-?\d[\d.]*),(-?\d[\d.]*)", picture):
            assert -1 <= float(x) <= 441 and -1 <= float(y) <= 201
