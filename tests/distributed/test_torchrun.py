"""Searches and trainings of two processes: as good as one, restarted after a death, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.testing.outcome import TIMES, outcome
from pcdarts_fast.testing.tiny_search import start, tiny_options, wait_for_epochs

TINY = tiny_options(epochs=4)
ONE_MACHINE = ["--standalone", "--nproc-per-node", "2"]


def torchrun(
    *arguments: str, restarts: int = 0, cwd: Path, machine: list[str] = ONE_MACHINE, **env: str
) -> subprocess.Popen[str]:
    launcher = ["-m", "torch.distributed.run", *machine, "--max-restarts", str(restarts)]
    return start([*launcher, *arguments], cwd=cwd, env=env)


def pcdarts(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return torchrun("-m", "pcdarts_fast", *arguments, **options)


def workers(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """rank -> process id of what the launcher has started."""
    found = {}
    listing = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    for pid in map(int, listing.split()):
        values = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(v.removeprefix(b"RANK=")): pid for v in values if v.startswith(b"RANK=")}
    return found


def own_lines(errors: str) -> list[str]:
    """Of tracebacks through this package; torchrun adds its own."""
    return [line for line in errors.splitlines() if "pcdarts_fast/" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of two processes that nothing disturbed."""
    parent = tmp_path_factory.mktemp("two")
    process = pcdarts("search", *TINY, "--output-dir", "run", cwd=parent)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert printed.count("epoch 4/4") == 1  # the first process prints, and no other
    return parent / "run"


def run_two_processes(cwd: Path, **env: str) -> None:
    process = torchrun(str(Path(__file__).with_name("two_processes.py")), cwd=cwd, **env)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_what_two_processes_compute(tmp_path: Path) -> None:
    run_two_processes(tmp_path)


def test_statistics_of_two_processes_on_triton(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    run_two_processes(tmp_path, TRITON_INTERPRET="1")


def test_statistics_of_two_processes_on_cuda(simulator: str, tmp_path: Path) -> None:
    run_two_processes(tmp_path, PCDARTS_SIMULATOR=simulator)


def test_search_leaves_the_files_of_a_run(whole: Path) -> None:
    assert [line["epoch"] for line in read_lines(whole / "metrics.jsonl")] == [0, 1, 2, 3]
    assert json.loads((whole / "environment.json").read_text())[0]["processes"] == 2
    assert (whole / "genotype.svg").exists() and (whole / "naive.json").exists()


def test_several_seeds_one_after_the_other(whole: Path, tmp_path: Path) -> None:
    process = pcdarts("search", *TINY, "--seeds", "0..1", "--output-dir", "run", cwd=tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert outcome(tmp_path / "run" / "seed-0") == outcome(whole)
    assert set(json.loads((tmp_path / "run" / "seeds.json").read_text())["valid_accuracy"]) == {
        *("0", "1")
    }


def test_killed_process_is_restarted_and_nothing_is_lost(whole: Path, tmp_path: Path) -> None:
    process = pcdarts("search", *TINY, "--output-dir", "run", cwd=tmp_path, restarts=2)
    wait_for_epochs(tmp_path / "run", 2, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "going on after epoch" in printed
    assert outcome(tmp_path / "run") == outcome(whole)


def test_synchronized_search_runs_in_the_engine_and_outlives_a_process(tmp_path: Path) -> None:
    process = pcdarts("search", *TINY, "--sync-batch-norm", "--output-dir", "run", cwd=tmp_path)
    wait_for_epochs(tmp_path / "run", 2, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode != 0 and own_lines(errors) == []
    assert json.loads((tmp_path / "run" / "environment.json").read_text())[0]["backend"] == "cpu"
    process = pcdarts("search", "--resume", "--output-dir", "run", cwd=tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_signal_stops_both_processes_with_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    process = pcdarts("search", *TINY, "--output-dir", "run", cwd=tmp_path)
    wait_for_epochs(tmp_path / "run", 1, process)
    os.kill(workers(process)[1], signal.SIGTERM)  # the second one: the first learns of it
    _, errors = process.communicate()
    command = "torchrun --nproc-per-node 2 -m pcdarts_fast search --resume"
    assert errors.count(f"checkpoint written; go on with: {command}") == 1
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["epoch"] >= 1 and state["step"] >= 1
    process = pcdarts("search", "--resume", "--output-dir", "run", cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    # Running statistics are averaged once more than without the stop: equal but for rounding.
    stopped, wanted = (read_lines(f / "metrics.jsonl") for f in (tmp_path / "run", whole))
    for line, other in zip(stopped, wanted, strict=True):
        for name in set(line) - TIMES:
            assert line[name] == pytest.approx(other[name], rel=1e-5), name


def test_two_machines_are_as_good_as_one(whole: Path, tmp_path: Path) -> None:
    """Two launchers that meet by a port, as on two machines: the second sees no run folder."""
    with socket.create_server(("localhost", 0)) as free:
        meeting = f"localhost:{free.getsockname()[1]}"
    machine = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    machine += ["--rdzv-endpoint", meeting, "--rdzv-id", "pcdarts"]
    launchers = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        launchers.append(
            pcdarts("search", *TINY, "--output-dir", "run", cwd=tmp_path / name, machine=machine)
        )
    for launcher in launchers:
        _, errors = launcher.communicate()
        assert launcher.returncode == 0, errors
    (run,) = tmp_path.glob("*/run")
    assert outcome(run) == outcome(whole)


def test_training_in_two_processes(whole: Path, tmp_path: Path) -> None:
    options = ["--device", "cpu", "--init-channels", "4", "--layers", "3", "--epochs", "2"]
    process = pcdarts(
        *("train", "--genotype", str(whole / "genotype.json"), "--output-dir", "run"),
        *options,
        cwd=tmp_path,
    )
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    first, last = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert last["test_accuracy"] > 0.25 and last["train_loss"] < first["train_loss"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "a run of several processes needs --output-dir"),
        (["--output-dir", "run", "--batch-size", "63"], "--batch-size is 63, for all 2 processes"),
    ],
)
def test_what_several_processes_cannot_do_is_one_sentence(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    process = pcdarts("search", *TINY, *options, cwd=tmp_path)
    _, errors = process.communicate()
    assert process.returncode != 0
    # torchrun may end a process before it has said the same as the other
    assert f"pcdarts: {sentence}" in errors or f"pcdarts (process 1): {sentence}" in errors
    assert own_lines(errors) == []
