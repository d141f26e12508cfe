"""The report in a real browser: on a desk and on a phone, by day and by night, and on paper."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pcdarts_fast.report.page import write_report


def _load() -> ModuleType:
    path = Path(__file__).with_name("browser.py")
    spec = importlib.util.spec_from_file_location("browser", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browser_module = _load()
PROGRAM = browser_module.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="needs a Chromium, such as Debian's package chromium"
)

WIDE = """(() => {
  const scrolls = node => getComputedStyle(node).overflowX == "auto";
  const inside = node => node && (scrolls(node) || inside(node.parentElement));
  const width = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")].filter(
    node => node.getBoundingClientRect().right > width + 1 && !inside(node.parentElement)
  ).map(node => node.outerHTML.slice(0, 120));
})()"""

OVERLAPS = """(() => {
  const found = [];
  for (const svg of document.querySelectorAll("svg")) {
    const label = svg.getAttribute("aria-label");
    const texts = [...svg.querySelectorAll("text")].map(
      text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([a, r], i) => texts.slice(i + 1).forEach(([b, s]) => {
      const across = Math.min(r.right, s.right) - Math.max(r.left, s.left);
      const down = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
      if (across > 0.5 && down > 2) found.push(`${label}: ${a} | ${b}`);
    }));
  }
  return found;
})()"""

OUTSIDE = """[...document.querySelectorAll("svg text")].filter(text => {
  const r = text.getBoundingClientRect(), s = text.ownerSVGElement.getBoundingClientRect();
  const across = r.left < s.left - 0.5 || r.right > s.right + 0.5;
  return across || r.top < s.top - 2 || r.bottom > s.bottom + 2;
}).map(text => text.ownerSVGElement.getAttribute("aria-label") + ": " + text.textContent)"""

SMALLEST = """Math.min(...[...document.querySelectorAll("body :not(title)")].filter(
  node => [...node.childNodes].some(child => child.nodeType == 3 && child.data.trim())
).map(node => {
  const svg = node.ownerSVGElement;
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  return node.matches(".sub, sub") ? 99 : parseFloat(getComputedStyle(node).fontSize) * scale;
}))"""

BEYOND_PAPER = """[...document.querySelectorAll("figure, svg, table, pre")].filter(
  node => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1
).map(node => node.outerHTML.slice(0, 120))"""
A4 = 718
"""Pixels of its width between margins of a centimetre."""

COLOURS = """(() => {
  const style = getComputedStyle(document.body);
  return [style.color, style.backgroundColor];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with browser_module.Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def pages(make_search, tmp_path) -> list[Path]:
    """One run of usual size whose alphas hardly differ, and three runs beside each other.

    The first measured all that there is: the naive time, and eigenvalues from tiny to huge.
    """
    one = make_search("search-one", epochs=30, frozen_epochs=10, spread=1e-4, nodes=4)
    timed = {"images": [13, 26], "seconds": 1.0, "naive_seconds": 12.3}
    (one / "naive.json").write_text(json.dumps(timed))
    lines = [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()]
    for line in lines[9::5]:
        line["arch_hessian"] = 1e-5 * 10 ** (line["epoch"] / 3)
    (one / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    others = [make_search("a-run-of-a-rather-long-name" * 2), make_search("brief", epochs=1)]
    files = [tmp_path / "one.html", tmp_path / "three.html"]
    write_report([one], files[0])
    write_report([one, *others], files[1])
    return files


def lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_and_is_legible(browser, pages, width, scheme):
    for page in pages:
        browser.open(page, width, 900, scheme)
        shown = browser.run("document.body.textContent")
        assert "Naive time (estimate)" in shown and "12.3 times as long" in shown
        assert "Dominant eigenvalue of the architecture Hessian" in shown
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(WIDE) == []
        assert browser.run(OVERLAPS) == []
        assert browser.run(OUTSIDE) == []
        assert browser.run(SMALLEST) >= 10
        ink, ground = map(lightness, browser.run(COLOURS))
        assert (ink > 0.8 and ground < 0.2) if scheme == "dark" else (ink < 0.2 and ground > 0.8)
        assert browser.complaints() == []


def test_paper(browser, pages):
    """Printed from the dark scheme it is light, and nothing is cut off at the right."""
    for page, least in zip(pages, (5, 10), strict=True):
        browser.open(page, A4, 1000, "dark")
        printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
        assert printed.startswith(b"%PDF-")
        assert least <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 60
        browser.call("Emulation.setEmulatedMedia", media="print")
        _, ground = map(lightness, browser.run(COLOURS))
        assert ground > 0.9
        assert browser.run(BEYOND_PAPER) == []
        browser.call("Emulation.setEmulatedMedia", media="")


def test_the_table_of_a_comparison_fits_on_paper(browser, make_search, tmp_path):
    runs = [make_search(f"DARTS_V{number}/seed-{number}", epochs=1) for number in range(9)]
    write_report(runs, tmp_path / "report.html")
    browser.open(tmp_path / "report.html", A4, 1000, "light")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.run(BEYOND_PAPER) == []
    browser.call("Emulation.setEmulatedMedia", media="")


def test_hostile_content_stays_text(browser, make_search, tmp_path):
    hostile = "</style></svg><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    folder = make_search("<img src=x onerror=window.pwned=1>", primitives=("none", hostile))
    (folder / "environment.json").write_text(json.dumps([{hostile: hostile, "backend": hostile}]))
    write_report([folder, make_search("other")], tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 800, 600, "light")
    assert browser.run("window.pwned === undefined && document.images.length === 0")
    assert browser.run("document.scripts.length") == 0
    assert hostile in browser.run("document.body.textContent")
    assert browser.complaints() == []


def test_the_checks_can_fail(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><p style='width: 900px; font-size: 5px'>x</p>"
        "<svg viewBox='0 0 100 20'><text x='0' y='15'>one</text><text x='90' y='15'>two</text>"
        "<text x='2' y='15'>three</text></svg><pre style='width: 900px'>y</pre>"
        "<script>console.log('told')</script>"
    )
    browser.open(page, 360, 400, "light")
    assert browser.run("document.documentElement.scrollWidth") > 360
    assert browser.run(WIDE) and browser.run(OVERLAPS) and browser.run(OUTSIDE)
    assert browser.run(BEYOND_PAPER)
    assert browser.run(SMALLEST) == 5
    assert browser.complaints()
