"""`pcdarts search` from its options to its exit code; killed, out of disk, and resumed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import select
import shlex
import signal
import statistics
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pcdarts_fast import Genotype
from pcdarts_fast.cli import main
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.testing.outcome import outcome
from pcdarts_fast.testing.tiny_search import environment, start, tiny_options, wait_for_epochs

TINY = tiny_options(epochs=6)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def search(*options: str, **settings) -> subprocess.Popen[str]:
    return start(["-m", "pcdarts_fast", "search", *options], **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nothing disturbed, by the same command as the disturbed ones."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = search(*TINY, "--output-dir", str(folder), cwd=folder.parent)
    process.communicate()
    assert process.returncode == 0
    return folder


def test_search_prints_and_leaves_what_it_found(capsys):
    assert main(["search", *TINY]) == 0
    text = capsys.readouterr().out
    folder = Path("runs/search-digits")
    assert "epoch 6/6  train" in text and "architecture frozen" in text
    assert "pcdarts train --genotype runs/search-digits/genotype.json --preset digits" in text
    Genotype.load(folder / "genotype.json")
    assert (folder / "genotype.svg").read_text().lstrip().startswith("<?xml")
    assert len(read_lines(folder / "metrics.jsonl")) == 6
    assert json.loads((folder / "environment.json").read_text())[0]["seed"] == 0
    assert "preset: digits" in (folder / "config.yaml").read_text()
    assert main(["search", *TINY]) == 0
    assert Path("runs/search-digits-2/genotype.json").exists()


@pytest.mark.usefixtures("hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, whole, number):
    folder = tmp_path / "run"
    process = search(*TINY, "--output-dir", str(folder))
    wait_for_epochs(folder, 2, process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number
    assert re.fullmatch(
        r"pcdarts: stopped in epoch \d after step \d of 6, checkpoint written; "
        rf"go on with: pcdarts search --resume --output-dir {folder}",
        errors.strip(),
    )
    assert main(["search", "--resume", "--output-dir", str(folder)]) == 0
    assert outcome(folder) == outcome(whole)


@pytest.mark.usefixtures("hang_ups")
def test_a_closed_terminal_writes_a_checkpoint(tmp_path, whole):
    folder = tmp_path / "run"
    terminal, inner = os.openpty()
    os.set_blocking(terminal, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "pcdarts_fast", "search", *TINY, "--output-dir", str(folder)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), inner),
        env=environment(),
        preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
    )
    os.close(inner)
    metrics, shown = folder / "metrics.jsonl", b""
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None, shown
        if select.select([terminal], [], [], 0.01)[0]:
            shown += os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert main(["search", "--resume", "--output-dir", str(folder)]) == 0
    assert outcome(folder) == outcome(whole)


def test_output_that_nobody_reads_any_more_stops_it_and_says_how_to_go_on(tmp_path, whole):
    folder = tmp_path / "run"
    with search(*TINY, "--output-dir", str(folder)) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE
    assert errors.strip() == (
        "pcdarts: stopped, since nothing reads what it prints any more; "
        f"go on with: pcdarts search --resume --output-dir {folder}"
    )
    assert main(["search", "--resume", "--output-dir", str(folder)]) == 0
    assert outcome(folder) == outcome(whole)


def test_second_process_on_a_run_folder_is_refused_and_the_first_goes_on(tmp_path, whole, capsys):
    folder = tmp_path / "run"
    process = search(*TINY, "--output-dir", str(folder))
    wait_for_epochs(folder, 1, process)
    for options in (["--resume"], TINY):
        assert main(["search", *options, "--output-dir", str(folder)]) == 2
        sentence = capsys.readouterr().err
        assert "is in use by another process" in sentence or "is not empty" in sentence
        assert len(sentence.splitlines()) == 1
    process.communicate()
    assert process.returncode == 0
    assert outcome(folder) == outcome(whole)


def test_disk_that_fills_up_stops_in_one_sentence_and_loses_nothing(tmp_path, whole):
    """The limit lets the small files through and stops the first checkpoint half way."""

    def small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    folder = tmp_path / "run"
    process = search(*TINY, "--output-dir", str(folder), preexec_fn=small_disk)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.startswith(f"pcdarts: cannot write {folder}/checkpoint.next.pt: file too large;")
    assert len(errors.splitlines()) == 1
    assert not list(folder.glob(".*.tmp"))
    process = search("--resume", "--output-dir", str(folder))
    process.communicate()
    assert process.returncode == 0
    assert outcome(folder) == outcome(whole)


def test_resume_takes_the_settings_of_the_run_and_no_others(whole, capsys):
    assert main(["search", "--resume", "--output-dir", str(whole), "--epochs", "9"]) == 2
    assert capsys.readouterr().err.startswith(
        "pcdarts: --epochs is 9, but the run to resume has 6; keep that, or"
    )


def test_help_shows_the_values_of_the_preset(capsys):
    for preset, batch_size in (("digits", 64), ("imagenet", 1024)):
        with pytest.raises(SystemExit):
            main(["search", "--preset", preset, "--help"])
        assert f"(default: {batch_size})" in capsys.readouterr().out


BAD = {
    "preset": ("--preset mnist", "unknown preset 'mnist'; wanted one of digits, fashion-mnist"),
    "variant": ("--variant as-released", "preset digits has no variant 'as-released'"),
    "no data": ("--preset cifar10 --data-dir gone", "CIFAR10: no folder gone/cifar-10-batches-py"),
    "no images": ("--preset imagefolder --data-dir gone", "image folder gone: no train/"),
    "primitive": ("--primitives none sep_conv_4x4", "unknown primitive 'sep_conv_4x4'"),
    "k": ("--k 3", "k: got k=3 for C=16 channels, wanted a k >= 1 that divides C"),
    "size": ("--image-size 7", "digits images are 8 pixels wide, not 7"),
    "missing backend": ("--backend cuda --device cpu", "backend 'cuda' cannot run"),
    "resume nothing": ("--resume --output-dir gone", "no run to resume in gone"),
    "resume where": ("--resume", "--resume needs --output-dir"),
    "file as folder": ("--output-dir taken/file", "output folder taken/file is a file"),
    "one seed": ("--seeds 0..1 --seed 7", "--seed 7 is for one search; leave it out"),
    "taken folder": ("--output-dir taken", "output folder taken is not empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(case, capsys):
    options, sentence = BAD[case]
    Path("taken").mkdir()
    Path("taken/file").write_text("precious")
    assert main(["search", *options.split()]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"pcdarts: {sentence}")
    assert len(output.err.splitlines()) == 1
    assert "Traceback" not in output.out
    assert Path("taken/file").read_text() == "precious"


@pytest.mark.parametrize(
    "options", ["--backend gpu", "--epochs many", "--epoch 3", "--seed -1", "--epochs"]
)
def test_option_that_is_none_exits_with_2_and_shows_the_option(options, capsys):
    assert main(["search", *options.split()]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert options.split()[0] in sentence
    assert not Path("runs").exists()


def test_odd_size_of_an_image_folder(tmp_path, capsys):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for n in range(50):
            Image.new("RGB", (8, 8)).save(tmp_path / "train" / name / f"{n}.png")
    options = f"--preset imagefolder --data-dir {tmp_path} --image-size 225 --workers 0"
    assert main(["search", *options.split()]) == 2
    assert capsys.readouterr().err.startswith(
        "pcdarts: images of 225 pixels are 29 pixels wide before a reduction cell"
    )


def test_checkpoints_that_are_all_damaged(whole, tmp_path, capsys):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes()[: 100 if path.suffix == ".pt" else None])
    before = outcome(folder)
    assert main(["search", "--resume", "--output-dir", str(folder)]) == 2
    assert capsys.readouterr().err.startswith(
        f"pcdarts: checkpoint {folder}/checkpoint.pt is truncated or damaged, and no older one"
    )
    assert outcome(folder) == before


def test_several_seeds_take_the_best_and_go_on_by_themselves(capsys):
    options = [*TINY, "--epochs", "2", "--seeds", "3..5", "--output-dir", "many"]
    assert main(["search", *options]) == 0
    text = capsys.readouterr().out
    folder = Path("many")
    last = {
        seed: read_lines(folder / f"seed-{seed}" / "metrics.jsonl")[-1]["valid_accuracy"]
        for seed in (3, 4, 5)
    }
    for seed in last:
        record = json.loads((folder / f"seed-{seed}" / "environment.json").read_text())
        assert record[0]["seed"] == seed
    summary = json.loads((folder / "seeds.json").read_text())
    assert summary["valid_accuracy"] == {str(seed): value for seed, value in last.items()}
    assert summary["mean"] == pytest.approx(statistics.mean(last.values()))
    assert summary["deviation"] == pytest.approx(statistics.stdev(last.values()))
    best = folder / f"seed-{summary['best']}"
    assert last[summary["best"]] == max(last.values())
    assert (folder / "genotype.json").read_bytes() == (best / "genotype.json").read_bytes()
    assert f"mean {summary['mean']:.2%}, standard deviation" in text
    assert main(["search", *options]) == 0
    assert "epoch 1/2" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["search", "compare DARTS_V2"])
def test_a_folder_of_one_run_does_not_become_one_of_several(command, capsys):
    """Its genotype would be lost."""
    Path("one").mkdir()
    Path("one/config.yaml").write_text("preset: digits\n")
    options = ["--preset", "digits", "--seeds", "0..0", "--output-dir", "one"]
    assert main([*command.split(), *options]) == 2
    assert "output folder one is that of a single run; choose another" in capsys.readouterr().err
    assert [path.name for path in Path("one").iterdir()] == ["config.yaml"]


def test_ctrl_c_after_the_last_step_of_a_seed_is_heard(monkeypatch, capsys):
    from pcdarts_fast.cli import search

    monkeypatch.setattr(search, "_summarize", lambda _: signal.raise_signal(signal.SIGINT) or "")
    options = [*TINY, "--epochs", "1", "--frozen-epochs", "0", "--output-dir", "many"]
    assert main(["search", *options, "--seeds", "0..1"]) == 130
    assert "stopped between two seeds; go on with: pcdarts search" in capsys.readouterr().err
    assert Path("many/seed-0/report.html").exists() and not Path("many/seed-1").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_between_two_seeds_is_heard(number, monkeypatch, capsys):
    from pcdarts_fast.search import naive_time

    def stopped(folder: Path, stop, begin) -> None:
        os.kill(os.getpid(), number)
        assert stop()

    monkeypatch.setattr(naive_time, "time_against_naive", stopped)
    options = [*TINY, "--epochs", "1", "--frozen-epochs", "0", "--output-dir", "many folders"]
    assert main(["search", *options, "--seeds", "3..4"]) == 128 + number
    sentence = capsys.readouterr().err.strip()
    said, _, go_on = sentence.partition("; go on with: pcdarts ")
    assert said == "pcdarts: stopped between two seeds"
    assert shlex.split(go_on) == ["search", *options, "--seeds", "3..4"]
    assert Path("many folders/seed-3/genotype.json").exists()
    assert not Path("many folders/seed-4").exists()
    assert main(["search", *options, "--seeds", "3..3"]) == 0  # the last one is done all the same
    assert main(["search", "--resume", "--output-dir", "many folders"]) == 2
    assert "it is a folder of --seeds" in capsys.readouterr().err


def test_resuming_another_commands_run_names_that_command(capsys):
    assert main(["search", *TINY, "--epochs", "1", "--output-dir", "one"]) == 0
    assert main(["train", "--resume", "--output-dir", "one"]) == 2
    assert "pcdarts search --resume" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["4", "4..", "4..3", "-1..3", "0..x"])
def test_seeds_that_are_no_range(seeds, capsys):
    assert main(["search", "--seeds=" + seeds]) == 2
    assert "wanted FIRST..LAST such as 0..4" in capsys.readouterr().err


def test_random_sampling_from_the_options_to_the_report(tmp_path):
    options = ["--epochs", "1", "--sampling", "random", "--output-dir", "run"]
    assert main(["search", *TINY, *options]) == 0
    assert "Kept for backward (estimate)" in (tmp_path / "run" / "report.html").read_text()
