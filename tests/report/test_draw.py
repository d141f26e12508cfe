"""Drawings of genotypes: complete, legible, the same bytes every time."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.report.draw import draw_genotype
from pcdarts_fast.report.layout import HEIGHT, Item, layout_cell
from pcdarts_fast.space import PRIMITIVES, PUBLISHED, Genotype

SIGNATURES = {".svg": b"<?xml", ".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}


def deep_chain(nodes: int) -> tuple[tuple[str, int], ...]:
    """Every node reads the two states before it."""
    states = range(2, 2 + nodes)
    return tuple(
        edge for n in states for edge in (("sep_conv_5x5", n - 1), ("skip_connect", n - 2))
    )


def random_cell(nodes: int, seed: int) -> tuple[tuple[str, int], ...]:
    dice = random.Random(seed)
    return tuple(
        (dice.choice(PRIMITIVES[1:]), source)
        for state in range(2, 2 + nodes)
        for source in dice.sample(range(state), 2)
    )


CELLS = {
    **{f"{name}-normal": (g.normal, g.normal_concat) for name, g in PUBLISHED.items()},
    **{f"{name}-reduce": (g.reduce, g.reduce_concat) for name, g in PUBLISHED.items()},
    "one-node": (deep_chain(1), (2,)),
    "chain": (deep_chain(7), tuple(range(2, 9))),
    **{f"random-{seed}": (random_cell(6, seed), (3, 6, 7)) for seed in range(6)},
}


@pytest.mark.parametrize("ending", SIGNATURES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_genotypes_are_drawn_in_every_format(
    name: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}{ending}"
    draw_genotype(PUBLISHED[name], path)
    assert path.read_bytes().startswith(SIGNATURES[ending])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_svg_shows_every_operation_as_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "cell.svg"
    draw_genotype(PUBLISHED[name], path)
    texts = Counter(
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    )
    genotype = PUBLISHED[name]
    wanted = Counter(primitive for primitive, _ in genotype.normal + genotype.reduce)
    assert {primitive: texts[primitive] for primitive in wanted} == wanted
    assert texts["Normal cell"] == texts["Reduction cell"] == 1
    assert [texts[str(node)] for node in range(4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("ending", SIGNATURES)
def test_same_genotype_same_bytes_in_another_process(ending: str, tmp_path: Path) -> None:
    here, there = tmp_path / f"here{ending}", tmp_path / f"there{ending}"
    draw_genotype(PUBLISHED["PDARTS"], here)
    program = (
        "import sys; from pcdarts_fast.report.draw import draw_genotype;"
        "from pcdarts_fast.space import PUBLISHED; draw_genotype(PUBLISHED['PDARTS'], sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(there)], check=True)
    assert here.read_bytes() == there.read_bytes()


def box(item: Item) -> tuple[float, float, float, float]:
    """left, right, bottom, top"""
    half = HEIGHT[item.kind] / 2
    return item.x - item.width / 2, item.x + item.width / 2, item.y - half, item.y + half


@pytest.mark.parametrize("name", CELLS)
def test_nothing_overlaps(name: str) -> None:
    layout = layout_cell(*CELLS[name])
    # Edges bend between columns only, so that clear places within each column keep them apart.
    for a, b in combinations(layout.items, 2):
        (left, right, bottom, top), (left_b, right_b, bottom_b, top_b) = box(a), box(b)
        beside = right < left_b or right_b < left
        above = top < bottom_b or top_b < bottom
        assert beside or above, f"{a} overlaps {b}"
    for item in layout.items:
        left, right, bottom, top = box(item)
        assert left > -1e-9 and right < layout.width + 1e-9
        assert bottom > -1e-9 and top < layout.height + 1e-9


@pytest.mark.parametrize("name", CELLS)
def test_lines_run_rightwards_from_source_through_operation_to_node(name: str) -> None:
    cell, concat = CELLS[name]
    lines = layout_cell(cell, concat).lines
    drawn: Counter[tuple[object, ...]] = Counter()
    for line in lines:
        ranks = [item.rank for item in line.items]
        assert ranks == list(range(ranks[0], ranks[0] + len(ranks)))
        labels = [item.label for item in line.items if item.kind == "operation"]
        drawn[(line.items[0].state, *labels, line.items[-1].state)] += 1
    wanted = Counter((source, op, 2 + i // 2) for i, (op, source) in enumerate(cell))
    wanted += Counter((state, None) for state in concat)
    assert drawn == wanted


def test_inputs_stand_in_order_where_crossings_allow_it() -> None:
    layout = layout_cell(PUBLISHED["PC_DARTS_cifar"].normal, (2, 3, 4, 5))
    height = {item.state: item.y for item in layout.items if item.state is not None}
    assert height[0] > height[1]
    assert height[2] > height[3] > height[4] > height[5]


def test_a_primitive_of_ones_own_fits_its_box() -> None:
    label = "my_squeeze_and_excite_block"
    layout = layout_cell(((label, 0), ("skip_connect", 1)), (2,))
    wide, narrow = (next(i for i in layout.items if i.label == k) for k in (label, "skip_connect"))
    assert wide.width > narrow.width * len(label) / len("skip_connect") * 0.9


@pytest.mark.parametrize("name", ["cell.jpg", "cell", "cell.svg.gz"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.svg, \.png, \.pdf"):
        draw_genotype(PUBLISHED["PDARTS"], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        draw_genotype(PUBLISHED["PDARTS"], tmp_path / "nowhere" / "cell.svg")


def test_one_node_genotype_is_drawn(tmp_path: Path) -> None:
    cell = deep_chain(1)
    draw_genotype(Genotype(cell, (2,), cell, (2,)), tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 1000
