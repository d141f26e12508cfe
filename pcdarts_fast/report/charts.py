"""Charts of a report, drawn as SVG: curves over the epochs, and which choice leads when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .svg import Element, add, drawing, inline, polyline

Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Curve:
    """A line of a chart; `colour` is the number of a colour of the style sheet."""

    name: str
    points: Points
    """(epoch from 1, value), by epoch."""
    colour: int
    bold: bool = False


@dataclass(frozen=True)
class Frame:
    """Where a plot lies in its picture, and which values it spans."""

    left: float
    right: float
    top: float
    bottom: float
    epochs: int
    low: float
    high: float

    def x(self, epoch: float) -> float:
        share = (epoch - 1) / (self.epochs - 1) if self.epochs > 1 else 0.5
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)


def span(curves: Sequence[Curve]) -> tuple[float, float]:
    """The lowest and the highest value; a little apart where they are one."""
    values = [value for curve in curves for _, value in curve.points]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if high - low > max(1e-9 * max(abs(low), abs(high)), 1e-30):
        return low, high
    around = 0.01 * abs(low) or 1.0
    return low - around, high + around


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    epochs: int,
    frozen: int = 0,
    percent: bool = False,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """Curves with both axes; `limits` make several charts comparable, else the data decide."""
    low, high = limits or span(curves)
    ticks = _ticks(low, high, 4)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    width, height = 440.0, 200.0
    frame = Frame(56, width - 10, 10, height - 26, epochs, low, high)
    root = drawing(width, height, title, class_="chart")
    _frozen(root, frame, frozen, named=True)
    step = ticks[1] - ticks[0]
    for value in ticks:
        y = frame.y(value)
        add(root, "line", class_="grid", x1=frame.left, x2=frame.right, y1=y, y2=y)
        text = f"{100 * value:.{_decimals(100 * step)}f}%" if percent else _number(value, step)
        add(root, "text", text, class_="tick end", x=frame.left - 6, y=y + 4)
    for epoch in sorted({1, epochs, *(_whole_ticks(epochs))}):
        anchor = "tick end" if epoch == epochs > 1 else "tick middle"
        x = min(frame.x(epoch) + 6, width - 2) if epoch == epochs > 1 else frame.x(epoch)
        add(root, "text", str(epoch), class_=anchor, x=x, y=height - 8)
    _lines(root, frame, curves)
    return inline(root)


def small_chart(
    title: str, curves: Sequence[Curve], *, epochs: int, frozen: int
) -> tuple[Markup, str, str]:
    """Shares scaled to their own range; the picture, the lowest and the highest as text."""
    low, high = span(curves)
    decimals = _decimals(100 * (high - low) / 5)
    frame = Frame(3, 237, 5, 91, epochs, low, high)
    root = drawing(240, 96, title, class_="chart mini")
    add(root, "rect", class_="ground", x=0, y=0, width=240, height=96, rx=4)
    _frozen(root, frame, frozen)
    _lines(root, frame, curves)
    return inline(root), f"{100 * low:.{decimals}f}%", f"{100 * high:.{decimals}f}%"


def leaders(
    title: str, rows: Sequence[Sequence[int]], labels: Sequence[str], names: Mapping[int, str]
) -> Markup:
    """One bar a row over the epochs: `rows[r][t]` is the colour of the choice that leads then."""
    epochs = max(map(len, rows))
    pitch, left, width = 22, 78.0, 440.0
    height = pitch * len(rows) + 22.0
    cell = (width - left - 4) / epochs
    root = drawing(width, height, title, class_="chart")
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = number * pitch
        add(root, "text", label, class_="tick end", x=left - 8, y=y + 13)
        start = 0
        for end in range(1, len(row) + 1):
            if end == len(row) or row[end] != row[start]:
                bar = add(
                    root,
                    "rect",
                    class_=f"fill{row[start] % COLOURS}",
                    x=left + start * cell,
                    y=y + 2,
                    width=(end - start) * cell,
                    height=pitch - 5,
                )
                when = f"{start + 1}" if end == start + 1 else f"{start + 1} to {end}"
                add(bar, "title", f"{names[row[start]]}, epoch {when}")
                start = end
    add(root, "text", "epoch 1", class_="tick", x=left, y=height - 5)
    add(root, "text", str(epochs), class_="tick end", x=width - 4, y=height - 5)
    return inline(root)


COLOURS = 16
"""How many the style sheet has."""


def _lines(root: Element, frame: Frame, curves: Sequence[Curve]) -> None:
    for curve in sorted(curves, key=lambda curve: curve.bold):
        colour = f"line{curve.colour % COLOURS}"
        points = [(frame.x(epoch), frame.y(value)) for epoch, value in curve.points]
        if len(points) == 1:
            mark = add(root, "circle", class_=colour, cx=points[0][0], cy=points[0][1], r=3)
        else:
            weight = " bold" if curve.bold else ""
            mark = add(root, "polyline", class_=colour + weight, points=polyline(points))
        add(mark, "title", curve.name)


def _frozen(root: Element, frame: Frame, frozen: int, named: bool = False) -> None:
    """The epochs in which the architecture stays as drawn."""
    last = min(frozen, frame.epochs)
    if last < 1 or frame.epochs < 2:
        return
    width = frame.x(last) - frame.left
    height = frame.bottom - frame.top
    add(root, "rect", class_="frozen", x=frame.left, y=frame.top, width=width, height=height)
    if named and width > 50:
        middle = frame.left + width / 2
        add(root, "text", "frozen", class_="tick middle", x=middle, y=frame.bottom - 6)


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers that enclose the range."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [number * step for number in range(first, last + 1)]


def _whole_ticks(epochs: int) -> list[int]:
    """Round epochs that keep clear of the first and of the last."""
    step = next(s for p in range(9) for s in (10**p, 2 * 10**p, 5 * 10**p) if epochs / s <= 6)
    return [e for e in range(step, epochs, step) if e > 1 + step / 2 and epochs - e > step / 2]


def _decimals(step: float) -> int:
    """Enough to tell values `step` apart."""
    return min(6, max(0, -math.floor(math.log10(step) + 1e-9)))


def _number(value: float, step: float) -> str:
    if max(abs(value), step) >= 1e5 or step < 1e-4:
        return f"{value:.1e}"
    return f"{value:.{_decimals(step)}f}"
