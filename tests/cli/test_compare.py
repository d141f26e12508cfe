"""`pcdarts compare`: a table, a compare.json, and no training done twice."""

from __future__ import annotations

import json
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from pcdarts_fast.cli import compare, main
from pcdarts_fast.testing.tiny_search import start

TINY = [
    *("--init-channels", "2", "--layers", "1", "--batch-size", "256", "--epochs", "3"),
    *("--auxiliary-weight", "0", "--device", "cpu", "--seeds", "0..1"),
]
FIELD = ["DARTS_V2", "random:2", "--random-seed", "5"]


def trainings(folder: Path) -> dict[str, bytes]:
    """Every byte that the trainings have left, also when they were: times are in metrics.jsonl."""
    return {str(path): path.read_bytes() for path in folder.glob("*/seed-*/metrics.jsonl")}


def test_interrupted_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    process = start(["-m", "pcdarts_fast", "compare", *FIELD, *TINY])
    folder = Path("runs/compare-digits")
    for name in ("DARTS_V2", "random-5"):
        while not (folder / name / "seed-0" / "config.yaml").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        while not (folder / "compare.json").exists():  # so that a report can be made of it
            assert process.poll() is None, process.communicate()
            assert not (folder / name / "seed-0" / "weights.safetensors").exists()
            time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    go_on = said.strip().split("go on with: pcdarts ")[1].split()
    assert go_on == ["compare", *FIELD, *TINY, "--output-dir", str(folder)]
    before = trainings(folder)
    assert str(folder / "DARTS_V2/seed-0/metrics.jsonl") in before

    assert main(go_on) == 0
    printed = capsys.readouterr().out
    assert "6 trainings, 1 of them done before" in printed
    after = trainings(folder)
    done = str(folder / "DARTS_V2/seed-0/metrics.jsonl")
    assert after[done] == before[done] and len(after) == 6
    saved = json.loads((folder / "compare.json").read_text())
    assert saved["trainings_done"] == saved["trainings"] == 6
    assert {row["name"] for row in saved["genotypes"]} == {"DARTS_V2", "random-5", "random-6"}
    for row in saved["genotypes"]:
        assert f"{100 * row['mean']:.2f}" in printed and f"{row['parameters']:,}" in printed
    drawn = [row["mean"] for row in saved["genotypes"] if row["name"].startswith("random-")]
    assert f"2 random genotypes: mean {statistics.mean(drawn):.2%}" in printed
    assert f"best {max(drawn):.2%}" in printed
    assert len(list(folder.glob("*/seed-*/report.html"))) == 6

    assert main(["report", str(folder), "-o", "all.html"]) == 0
    page = Path("all.html").read_text()
    names = [
        f"{row}/seed-{seed}" for row in ("DARTS_V2", "random-5", "random-6") for seed in (0, 1)
    ]
    places = [page.index(name) for name in names]
    assert places == sorted(places)

    assert main(go_on) == 0
    assert trainings(folder) == after
    assert "6 of them done before" in capsys.readouterr().out
    assert main([*go_on, "--epochs", "4"]) == 2
    assert "--epochs is 4, but the run to resume has 3" in capsys.readouterr().err


def test_ctrl_c_after_the_last_step_of_a_training_ends_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def summarize(metrics: dict[str, Any]) -> str:
        signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(compare, "summarize", summarize)
    folder = tmp_path / "run"
    options = [*TINY, "--epochs", "1", "--output-dir", str(folder)]
    assert main(["compare", *FIELD, *options]) == 130
    assert "stopped between two trainings; go on with: pcdarts compare" in capsys.readouterr().err
    assert len(trainings(folder)) == 1


def test_ctrl_c_after_the_last_step_of_all_has_nothing_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "summarize", lambda _: signal.raise_signal(signal.SIGINT) or "")
    folder = tmp_path / "run"
    options = [*TINY, "--epochs", "1", "--seeds", "0..0", "--output-dir", str(folder)]
    assert main(["compare", "DARTS_V2", *options]) == 0
    assert json.loads((folder / "compare.json").read_text())["trainings_done"] == 1


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], "nothing to compare"),
        (["PDARTS", "--seed", "4"], "give --seeds 0..2"),
        (["PDARTS", "--seeds", "2"], "FIRST..LAST"),
        (["PDARTS", "--resume"], "goes on by itself"),
    ],
)
def test_bad_input_is_one_sentence(
    args: list[str],
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *args]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert wanted in sentence
    assert list(tmp_path.iterdir()) == []
