"""`pcdarts show`: both cells printed, or drawn to a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.space import PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_prints_every_operation_and_its_source(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 0
    printed = capsys.readouterr().out
    normal, reduction = printed.split("Reduction cell")
    for text, cell in ((normal, PUBLISHED[name].normal), (reduction, PUBLISHED[name].reduce)):
        rows = [line.strip("│ ").split() for line in text.splitlines() if line.startswith("│")]
        words = {0: "c_{k-2}", 1: "c_{k-1}", 2: "0", 3: "1", 4: "2"}
        assert [[word for word in row if word != "│"] for row in rows] == [
            [str(node), first, words[a], second, words[b]]
            for node, ((first, a), (second, b)) in enumerate(
                zip(cell[::2], cell[1::2], strict=True)
            )
        ]
        assert "concatenation of 0, 1, 2, 3" in text


def test_a_narrow_terminal_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["show", "PC_DARTS_cifar"]) == 0
    assert "\u2026" not in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_draws_a_genotype_file(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PUBLISHED["PC_DARTS_cifar"].save(tmp_path / "genotype.json")
    drawing = tmp_path / f"cell.{ending}"
    assert main(["show", str(tmp_path / "genotype.json"), "-o", str(drawing)]) == 0
    assert str(drawing) in capsys.readouterr().out
    assert drawing.stat().st_size > 5000


BAD_FILES = {
    "empty": "",
    "no JSON": "{'normal': 1}",
    "no genotype": "[1, 2]",
    "field missing": json.dumps({"normal": [["skip_connect", 0], ["skip_connect", 1]]}),
    "later source": json.dumps(
        {
            "normal": [["skip_connect", 0], ["skip_connect", 2]],
            "normal_concat": [2],
            "reduce": [["skip_connect", 0], ["skip_connect", 1]],
            "reduce_concat": [2],
        }
    ),
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_genotype_is_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "genotype.json"
    path.write_text(text)
    assert main(["show", str(path)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(path) in sentence


def test_unreadable_and_unknown_genotypes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for given, wanted in (
        ("PC_DARTS_cifr", "did you mean PC_DARTS_cifar?"),
        (str(tmp_path), "no genotype.json in this folder"),
        (str(tmp_path / "binary.json"), "cannot be read"),
    ):
        assert main(["show", given]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert given in sentence and wanted in sentence
    assert main(["show", "nothing"]) == 2
    assert "PC_DARTS_cifar, PC_DARTS_image, DARTS_V1, DARTS_V2, PDARTS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "wanted"), [("cell.gif", ".svg, .png, .pdf"), ("missing/cell.svg", "no folder")]
)
def test_drawings_that_cannot_be(
    output: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "PDARTS", "-o", str(tmp_path / output)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert wanted in sentence
    assert list(tmp_path.iterdir()) == []
