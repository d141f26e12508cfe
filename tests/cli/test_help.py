"""What every command says of itself, and how it says no: help, mistakes, exit codes, completion."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.cli.main import COMMANDS
from pcdarts_fast.run.config import SearchConfig

COLUMNS, ROWS = 80, 24


def help_of(*args: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as leaving:
        main([*args])
    assert leaving.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_begins_with_usage_description_and_examples(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    for flag in ("--help", "-h"):
        text = help_of(command, flag, capsys=capsys)
        lines = text.strip().splitlines()
        assert lines[0].startswith(f"usage: pcdarts {command} ")
        examples = lines.index("examples:")
        assert lines[2].endswith(".") and 3 < examples < 8
        assert lines[examples + 1].startswith(f"  pcdarts {command}") or "<(" in lines[examples + 1]
        assert sum(math.ceil(len(line) / COLUMNS) or 1 for line in lines) <= ROWS


def test_overview_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= COLUMNS


def test_help_all_has_every_option_and_help_those_used_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = help_of("search", "--preset", "imagenet", "--help", capsys=capsys)
    whole = help_of("search", "--preset", "imagenet", "--help-all", capsys=capsys)
    names = [f"--{field.name.replace('_', '-')}" for field in fields(SearchConfig)]
    assert all(f"{name} " in whole or f"{name}," in whole for name in names)
    assert "--help-all" in short and "--arch-beta1" not in short
    assert "--epochs" in short and "--resume" in short
    assert "(default: 1024)" in short and "(default: 1024)" in whole  # of the preset


MISTAKES = {
    "search": (
        ("--epochs ten", "--epochs cannot be 'ten', wanted --epochs INT"),
        ("--epoch 3", "did you mean --epochs?"),
        ("--epochs 0", "--epochs is 0, wanted 1 or more"),
        ("--epochs", "--epochs needs a value"),
        ("--stem vgg", "--stem cannot be 'vgg', wanted one of cifar, imagenet"),
        ("more", "Unrecognized options: more"),
        ("--preset", "--preset: expected one argument"),
        ("--preset mnist", "wanted one of digits"),
        ("--resume", "--resume needs --output-dir"),
        ("--resume --output-dir nowhere", "no run to resume in nowhere"),
        ("--seeds 3", "wanted FIRST..LAST such as 0..4"),
        ("--preset cifar10", "data"),
    ),
    "train": (
        ("", "name one with --genotype FILE or NAME"),
        ("--nodes 3", "Unrecognized options: --nodes, 3"),
        ("--genotype PDARTZ", "did you mean PDARTS?"),
        ("--genotype PDARTS --preset cifar100 --data-dir nowhere", "nowhere"),
    ),
    "count": (
        ("", "missing: GENOTYPE"),
        ("PDARTS --layers x", "--layers cannot be 'x', wanted --layers INT"),
        ("PDARTS --layers 0", "--layers is 0, wanted 1 or more"),
        ("nowhere.json", "no such file"),
    ),
    "show": (
        ("", "missing: GENOTYPE"),
        ("PDARTS PDARTS", "Unrecognized options: PDARTS"),
        ("PDARTS -o cell.gif", "wanted one of .svg, .png, .pdf"),
        ("PDARTS -o nowhere/cell.svg", "make it first"),
    ),
    "export": (
        ("", "missing: RUN_OR_WEIGHTS and -o FILE"),
        ("PDARTS -o cell.txt", "wanted one of .onnx, .pt2, .safetensors, .py"),
        ("nowhere -o net.onnx", "no run, weights or genotype nowhere"),
        ("PDARTS -o net.onnx", "pcdarts train --genotype PDARTS"),
    ),
    "compare": (
        ("", "genotype"),
        ("PDARTS --resume", "no --resume"),
        ("PDARTS --seeds 3", "wanted FIRST..LAST such as 0..4"),
        ("PDARTZ", "did you mean PDARTS?"),
    ),
    "report": (
        ("", "such as runs/search-digits"),
        ("nowhere", "nowhere"),
        ("--all", "Unrecognized options: --all"),
    ),
    "completion": (("", "missing:"), ("tcsh", "wanted one of bash, zsh, fish")),
    "info": (("please", "Unrecognized options: please"),),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_mistakes_are_one_sentence_that_says_what_to_do(
    command: str,
    encoding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, wanted in MISTAKES[command]:
        with monkeypatch.context() as patch:
            # Frames around its messages are drawn by tyro as the output can show them.
            patch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
            assert main([command, *options.split()]) == 2, options
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith("pcdarts: ") and wanted in sentence
        assert not set(sentence) & set("│╭─╰") and "---" not in sentence
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []


@pytest.mark.parametrize(
    ("arguments", "code"), [("show PDARTS", 0), ("show PDARTZ", 2), ("info --x", 2), ("none", 2)]
)
def test_exit_codes_of_the_process(arguments: str, code: int) -> None:
    command = [sys.executable, "-m", "pcdarts_fast", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == (code > 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_run_has_begun(number: int, code: int, tmp_path: Path) -> None:
    """With the run on its way it writes a checkpoint: tests/cli/test_search.py."""
    program = (
        "import os, signal, sys\nimport pcdarts_fast.cli.show as show\n"
        # A shell that starts the tests in the background has it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"show.main = lambda args: os.kill(os.getpid(), {int(number)})\n"
        "from pcdarts_fast.cli import main\nsys.exit(main(['show']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code or done.returncode == -number == -signal.SIGTERM
    assert "Traceback" not in done.stderr


def test_the_documents_tell_the_exit_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert all(f"\n| {code} | " in text for code in (0, 2, 129, 130, 141, 143))
