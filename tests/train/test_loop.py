"""Training a derived network on the embedded digits: it learns, stops, goes on, and says no."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.derived import DerivedCell
from pcdarts_fast.nn.exported import TrainedOn, read_metadata
from pcdarts_fast.run.events import EpochDone, Notice, Progress
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import PUBLISHED, Genotype
from pcdarts_fast.testing.outcome import metrics_of, of
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.events import Finished, Started
from pcdarts_fast.train.loop import train
from pcdarts_fast.train.presets import train_config
from pcdarts_fast.train.schedule import learning_rate

GENOTYPE = PUBLISHED["DARTS_V1"]


def small(**changes: Any) -> TrainConfig:
    """A few seconds for an epoch, with everything random in it that there is."""
    settings = {
        "init_channels": 4,
        "layers": 3,
        "epochs": 3,
        "batch_size": 128,
        "drop_path": 0.2,
        "cutout": 2,
        "label_smoothing": 0.1,
        "device": "cpu",
    }
    return replace(train_config("digits"), **{**settings, **changes})


def run(config: TrainConfig, folder: Path, **kw: Any) -> list[Any]:
    return list(train(config, kw.pop("genotype", GENOTYPE), folder, **kw))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["network"]
    assert isinstance(state, dict)
    return state


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run(small(), folder)
    return folder


@pytest.mark.parametrize("channels", [4, 8])
def test_on_a_cpu_states_of_8_channels_are_channels_last(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strides, forward = [], DerivedCell.forward

    def recorded(self: DerivedCell, s0: torch.Tensor, s1: torch.Tensor, p: float) -> torch.Tensor:
        out = forward(self, s0, s1, p)
        strides.extend((self.training, state.stride(1)) for state in (s0, s1, out))
        return out

    monkeypatch.setattr(DerivedCell, "forward", recorded)
    run(small(epochs=1, init_channels=channels), tmp_path / "run")
    assert (set(strides) == {(True, 1), (False, 1)}) is (channels == 8)


def test_a_published_genotype_learns_the_digits(tmp_path: Path) -> None:
    config = replace(train_config("digits"), init_channels=8, layers=3, epochs=6, device="cpu")
    *_, finished = train(config, PUBLISHED["DARTS_V2"], tmp_path / "run")
    assert isinstance(finished, Finished)
    assert finished.metrics["test_accuracy"] > 0.95
    assert finished.metrics["test_loss"] < 0.3
    *_, trained_on = read_metadata(tmp_path / "run" / "weights.safetensors")
    assert trained_on == TrainedOn((0.3053,), (0.3761,), tuple("0123456789"), 8)


def test_events_and_files_of_a_run(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[torch.Tensor] = []

    def mean_of(run: Any, state: Any, batches: Any, forward: Any) -> tuple[float, float]:
        tested.extend(labels for _, labels in batches)
        return 7.0, 0.5

    monkeypatch.setattr("pcdarts_fast.train.epoch.mean_of", mean_of)
    events = run(small(epochs=1), tmp_path / "run")
    assert torch.equal(torch.cat(tested), load("digits").test.labels)
    line = events[-1].metrics
    assert (line["test_loss"], line["test_accuracy"]) == (7.0, 0.5)
    assert (line["train_loss"], line["train_accuracy"]) == (events[-3].loss, events[-3].accuracy)
    assert isinstance(events[0], Started)
    assert events[0].train_images + events[0].test_images == 1797
    assert (events[0].epochs_done, events[0].epochs) == (0, 1)
    assert [type(event) for event in events[-2:]] == [EpochDone, Finished]
    assert sum(isinstance(event, Progress) for event in events) == events[0].steps
    assert events[-1].metrics == events[-2].metrics

    lines = read_lines(uninterrupted / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["drop_path"] for line in lines] == pytest.approx([0, 0.2 / 3, 0.4 / 3])
    rates = [learning_rate(small(), epoch) for epoch in range(3)]
    assert [line["learning_rate"] for line in lines] == rates
    assert all(line["images_per_second"] > 0 for line in lines)
    assert Genotype.load(uninterrupted / "genotype.json") == GENOTYPE
    names = {path.name for path in uninterrupted.iterdir()} - {".lock"}
    assert names == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "genotype.json",
        "checkpoint.pt",
        "checkpoint.previous.pt",
        "weights.safetensors",
    }


def test_same_seed_same_bits_and_another_seed_others(uninterrupted: Path, tmp_path: Path) -> None:
    run(small(epochs=1), tmp_path / "a")
    run(small(epochs=1), tmp_path / "b")
    run(small(epochs=1, seed=1), tmp_path / "other")
    assert metrics_of(tmp_path / "a") == metrics_of(tmp_path / "b")
    assert (
        metrics_of(tmp_path / "a")[0]["train_loss"]
        != metrics_of(tmp_path / "other")[0]["train_loss"]
    )


def test_killed_and_resumed_equals_uninterrupted(uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the second epoch."""
    folder = tmp_path / "killed"
    program = f"""
import sys
from pathlib import Path
import torch
from pcdarts_fast.run.events import Progress
from pcdarts_fast.space import PUBLISHED
from pcdarts_fast.train.loop import train
from pcdarts_fast.run.settings import load_settings
from pcdarts_fast.train.config import TrainConfig
torch.set_num_threads({torch.get_num_threads()})
config = load_settings(TrainConfig, Path(sys.argv[1]))
for event in train(config, PUBLISHED["DARTS_V1"], Path(sys.argv[2])):
    if isinstance(event, Progress):
        print(event.epoch, event.step, flush=True)
"""
    arguments = [sys.executable, "-c", program, str(uninterrupted / "config.yaml"), str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.split() == ["1", "4"]:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    assert len(metrics_of(folder)) == 1

    started, *_ = run(small(), folder, genotype=None, resume=True)
    assert started.epochs_done == 1
    assert metrics_of(folder) == metrics_of(uninterrupted)
    resumed, wanted = weights(folder), weights(uninterrupted)
    assert list(resumed) == list(wanted)
    assert [name for name, value in wanted.items() if not torch.equal(value, resumed[name])] == []


def test_resuming_a_finished_run_changes_nothing(uninterrupted: Path) -> None:
    before = metrics_of(uninterrupted)
    elsewhere = {"data_dir": Path("elsewhere"), "workers": 0, "damaged_images": "skip"}
    started, finished = run(small(**elsewhere), uninterrupted, resume=True)
    assert started.epochs_done == 3
    assert finished.metrics["test_accuracy"] == before[-1]["test_accuracy"]
    assert metrics_of(uninterrupted) == before


def test_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(small(), folder)
    complete = metrics_of(folder)
    truncate(folder / "checkpoint.pt")
    events = run(small(), folder, resume=True)
    assert events[0].epochs_done == 2
    (notice,) = of(Notice, events)
    assert "truncated" in notice.text
    assert metrics_of(folder) == complete

    truncate(folder / "checkpoint.pt")
    truncate(folder / "checkpoint.previous.pt")
    with pytest.raises(UserError, match="truncated"):
        run(small(), folder, resume=True)
    assert metrics_of(folder) == complete


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_bfloat16_trains(tmp_path: Path) -> None:
    # Without the auxiliary head: torch has no fast bfloat16 convolution of that shape on every CPU.
    config = small(epochs=2, precision="bf16", auxiliary_weight=0.0)
    *_, finished = run(config, tmp_path / "run")
    first, last = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert last["train_loss"] < first["train_loss"]
    assert {value.dtype for value in weights(tmp_path / "run").values()} <= {
        torch.float32,
        torch.int64,
    }
    assert finished.metrics["train_accuracy"] > 0.2


def test_without_auxiliary_weight_there_is_no_auxiliary_head(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run(small(epochs=1, auxiliary_weight=0.0), tmp_path / "run")
    assert any(name.startswith("auxiliary_head") for name in weights(uninterrupted))
    assert not any(name.startswith("auxiliary_head") for name in weights(tmp_path / "run"))


def test_resume_refuses_other_settings_and_another_genotype(uninterrupted: Path) -> None:
    with pytest.raises(UserError, match=r"--learning-rate is 0.2, but the run .* has"):
        run(small(learning_rate=0.2), uninterrupted, resume=True)
    with pytest.raises(UserError, match="--genotype is another one"):
        run(small(), uninterrupted, genotype=PUBLISHED["PDARTS"], resume=True)


def test_resume_where_a_kill_left_the_settings_alone(tmp_path: Path) -> None:
    config = small(epochs=1)
    save_settings(config, tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"genotype\.json: no such file"):
        run(config, tmp_path, genotype=None, resume=True)
    assert isinstance(run(config, tmp_path, resume=True)[-1], Finished)
    assert Genotype.load(tmp_path / "genotype.json") == GENOTYPE


def test_resume_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        run(small(), tmp_path, resume=True)


def test_a_new_run_needs_a_genotype(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--genotype"):
        run(small(), tmp_path / "run", genotype=None)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_overflows_is_a_sentence_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finite"):
        run(small(learning_rate=1e30), tmp_path / "run")


def test_too_few_images_for_a_step_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As three images of two classes are for two processes."""
    monkeypatch.setattr("pcdarts_fast.train.loop.steps", lambda images, batch, processes: 0)
    with pytest.raises(UserError, match="training images are too few for one step of 1 process,"):
        run(small(), tmp_path / "run")


def test_an_epoch_in_two_parts_counts_the_time_of_both(tmp_path: Path) -> None:
    config, steps = small(epochs=1), iter([False, True])
    run(config, tmp_path, stop=lambda: next(steps))
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 2 and checkpoint["seconds"] > 0
    checkpoint["seconds"] = 1000.0
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    run(config, tmp_path, resume=True)
    (line,) = read_lines(tmp_path / "metrics.jsonl")
    assert line["seconds"] > 1000 and 0 < line["images_per_second"] < 1797 / 1000
