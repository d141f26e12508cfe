"""SVG elements for a page: ElementTree escapes every text and attribute."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from markupsafe import Markup

Element = ElementTree.Element


def drawing(width: float, height: float, label: str, **attributes: str | float) -> Element:
    """A picture that scales to the width of its place; `label` is for who cannot see it."""
    box = f"0 0 {_plain(width)} {_plain(height)}"
    root = Element("svg", {"viewBox": box, "role": "img", "aria-label": label})
    for name, value in attributes.items():
        root.set(_hyphened(name), _plain(value))
    return root


def add(parent: Element, tag: str, text: str = "", **attributes: str | float) -> Element:
    """A new last child of `parent`; `class_` stands for class, `text_anchor` for text-anchor."""
    named = {_hyphened(name): _plain(value) for name, value in attributes.items()}
    child = ElementTree.SubElement(parent, tag, named)
    child.text = text or None
    return child


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """The `points` of a polyline, to a tenth of a pixel."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def inline(root: Element) -> Markup:
    """The picture as part of an HTML page."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _hyphened(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
