"""Genotypes: JSON and back, files, every kind of bad input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pcdarts_fast.errors import UserError
from pcdarts_fast.space import PRIMITIVES, PUBLISHED, Genotype, cell_edges, edges_into

CELL = [["sep_conv_3x3", 0], ["skip_connect", 1], ["max_pool_3x3", 2], ["dil_conv_5x5", 0]]
FIELDS = {"normal": CELL, "normal_concat": [2, 3], "reduce": CELL, "reduce_concat": [2, 3]}


@pytest.mark.parametrize(
    "form",
    ["{}", "PDARTS = {}\n", "  {}"],
)
@pytest.mark.parametrize("concat", ["range(2, 6)", "[2, 3, 4, 5,]", "(2, 3, 4, 5)"])
def test_the_published_form_is_read(form: str, concat: str, tmp_path: Path) -> None:
    wanted = PUBLISHED["PDARTS"]
    call = (
        f"Genotype(normal={list(wanted.normal)}, normal_concat={concat},\n"
        f"reduce={list(wanted.reduce)}, reduce_concat={concat},)"
    )
    (tmp_path / "genotype.txt").write_text(form.format(call))
    assert Genotype.load(tmp_path / "genotype.txt") == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_json_round_trip_of_published_genotypes(name: str, tmp_path: Path) -> None:
    genotype = Genotype.load(name)
    assert Genotype.from_json(genotype.to_json()) == genotype
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype
    assert [path.name for path in tmp_path.iterdir()] == ["genotype.json"]
    for cell in (genotype.normal, genotype.reduce):
        assert len(cell) == 8 and {primitive for primitive, _ in cell} <= set(PRIMITIVES)


def test_published_genotypes_never_change() -> None:
    """Their digest, of the day on which they were those of several public copies."""
    text = "".join(name + genotype.to_json() for name, genotype in PUBLISHED.items())
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "f68a4dcca93008b39e84d1a6579c5f7b9675292589674a5b3ec60825dc2ae986"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"normal": CELL[:3]}, "normal"),
        ({"normal": []}, "normal"),
        ({"reduce": [["sep_conv_3x3", 2], ["skip_connect", 1]]}, r"reduce\[0\]"),
        ({"reduce": [["sep_conv_3x3", -1], ["skip_connect", 1]]}, r"reduce\[0\]"),
        ({"reduce": [["sep_conv_3x3", 0.5], ["skip_connect", 1]]}, r"reduce\[0\]"),
        ({"normal": [["", 0], ["skip_connect", 1]]}, r"normal\[0\]"),
        ({"normal": [["skip_connect", 0], ["\x1b[2J", 1]]}, r"normal\[1\]"),
        ({"normal": [["skip_connect\nraise", 0], ["none", 1]]}, r"normal\[0\]"),
        ({"normal": "sep_conv_3x3"}, "normal"),
        ({"normal_concat": [4]}, "normal_concat"),
        ({"normal_concat": []}, "normal_concat"),
        ({"reduce_concat": [True]}, "reduce_concat"),
    ],
)
def test_bad_fields_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        Genotype.from_json(json.dumps({**FIELDS, **change}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"normal": 1}', "[" * 100_000, "9" * 5_000]
)
def test_text_that_is_no_genotype(text: str) -> None:
    with pytest.raises(UserError, match="genotype"):
        Genotype.from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_hostile_fields_end_in_one_error(value: object) -> None:
    for field in FIELDS:
        try:
            Genotype.from_json(json.dumps({**FIELDS, field: value}))
        except UserError as error:
            assert field in str(error)


def test_unknown_name_suggests_a_published_one() -> None:
    with pytest.raises(UserError, match="did you mean PC_DARTS_cifar"):
        Genotype.load("PC_DARTS_cifr")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"g\.json"):
        Genotype.load(tmp_path / "g.json")
    with pytest.raises(UserError, match=rf"{tmp_path.name}: no genotype\.json in this folder"):
        Genotype.load(tmp_path)


def test_the_folder_of_a_run_is_its_genotype(tmp_path: Path) -> None:
    PUBLISHED["PDARTS"].save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path) == PUBLISHED["PDARTS"]


def test_edges_of_a_cell() -> None:
    edges = cell_edges(4)
    assert len(edges) == 14
    for target in range(2, 6):
        assert [e.source for e in edges[edges_into(target)]] == list(range(target))
        assert {e.target for e in edges[edges_into(target)]} == {target}


def test_a_genotype_cannot_be_saved_onto_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        PUBLISHED["PDARTS"].save(tmp_path)
    assert list(tmp_path.parent.glob(f".{tmp_path.name}*")) == []
