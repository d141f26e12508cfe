"""`pcdarts train`: what it prints and leaves behind, and how it says no."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.run.settings import load_settings
from pcdarts_fast.space import PUBLISHED, Genotype
from pcdarts_fast.train.config import TrainConfig

TINY = ["--init-channels", "2", "--layers", "2", "--batch-size", "256", "--device", "cpu"]


def train(*args: str) -> int:
    return main(["train", *args])


def test_trains_reports_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("--genotype", "DARTS_V2", "--epochs", "2", "--seed", "3", *TINY) == 0
    printed = capsys.readouterr().out
    folder = Path("runs/train-digits")
    lines = read_lines(folder / "metrics.jsonl")
    assert f"test accuracy  {lines[-1]['test_accuracy']:.2%}" in printed
    for number, line in enumerate(lines, 1):
        losses = [f"{part} {line[f'{part}_loss']:.3f} " for part in ("train", "test")]
        assert all(loss in printed.split(f"epoch {number}/2")[1] for loss in losses)
    assert str(folder / "weights.safetensors") in printed
    config = load_settings(TrainConfig, folder / "config.yaml")
    assert (config.preset, config.epochs, config.seed, config.init_channels) == (
        *("digits", 2, 3, 2),
    )
    # The run's own settings and genotype are the defaults of a resumed run.
    assert train("--resume", "--output-dir", str(folder)) == 0
    assert "going on after epoch 2" in capsys.readouterr().out
    assert read_lines(folder / "metrics.jsonl") == lines


def test_help_shows_every_setting_with_the_defaults_of_the_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leaving:
        train("--preset", "imagenet", "--help-all")
    assert leaving.value.code == 0
    printed = capsys.readouterr().out
    for name in TrainConfig.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in printed
    assert "(default: 250)" in printed


def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for args, wanted in (
        ([], "--genotype FILE or NAME"),
        (["DARTS_V2"], "the genotype to train is an option: --genotype DARTS_V2"),
        (["--genotype", "DARTS_V3"], "did you mean DARTS_V"),
        (["--genotype", "PDARTS", "--preset", "mnist"], "unknown preset 'mnist'"),
        (["--resume"], "--output-dir"),
        (["--resume", "--output-dir", "nowhere"], "no run to resume in nowhere"),
    ):
        assert train(*args) == 2, args
        (sentence,) = capsys.readouterr().err.splitlines()
        assert wanted in sentence
    for wrong, wanted in (("0", "--epochs is 0, wanted 1 or more"), ("ten", "'ten'")):
        assert train("--genotype", "PDARTS", "--epochs", wrong) == 2
        assert wanted in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_unknown_primitive_missing_data_and_a_folder_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = (("sep_conv_7x7", 0), ("skip_connect", 1))
    Genotype(cell, (2,), cell, (2,)).save(tmp_path / "odd.json")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    good = str(tmp_path / "good.json")
    PUBLISHED["PDARTS"].save(good)
    for args, wanted in (
        (["--genotype", str(tmp_path / "odd.json")], "unknown primitive 'sep_conv_7x7'"),
        (["--genotype", good, "--preset", "cifar10", "--data-dir", str(tmp_path)], str(tmp_path)),
        (["--genotype", good, "--output-dir", str(tmp_path / "full")], "not empty"),
    ):
        folder = [] if "--output-dir" in args else ["--output-dir", str(tmp_path / "run")]
        assert train(*args, *folder) == 2, args
        (sentence,) = capsys.readouterr().err.splitlines()
        assert wanted in sentence
    assert (tmp_path / "full" / "thesis.tex").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
