"""Searches that are stopped, killed or damaged anywhere end as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from pcdarts_fast.errors import UserError
from pcdarts_fast.run.folder import RunFolder, read_lines
from pcdarts_fast.search import EpochDone, Notice, Progress, Started, Stopped, search
from pcdarts_fast.testing.outcome import of, outcome


def run(config, folder, *, resume=False) -> list:
    return list(search(config, folder, resume=resume))


@pytest.mark.parametrize(
    "changes",
    [{}, {"unrolled": True}, {"edge_normalization": False}],
    ids=["first-order", "unrolled", "no-edge-normalization"],
)
def test_stopped_in_the_middle_and_resumed_is_as_if_never_stopped(tiny, tmp_path, changes):
    config = replace(tiny, **changes)
    run(config, tmp_path / "whole")
    for stop in (Progress, EpochDone):
        folder = tmp_path / stop.__name__
        with pytest.raises(InterruptedError):
            for event in search(config, folder):
                at = event.metrics if isinstance(event, EpochDone) else vars(event)
                if isinstance(event, stop) and at["epoch"] == 2:
                    raise InterruptedError
        torch.manual_seed(99)
        (started,) = of(Started, run(config, folder, resume=True))
        assert started.epochs_done == (2 if stop is Progress else 3)
        assert outcome(folder) == outcome(tmp_path / "whole")


def test_finished_run_resumes_to_its_end_at_once_and_elsewhere(tiny, tmp_path):
    config = replace(tiny, epochs=2)
    first = run(config, tmp_path)
    elsewhere = {"data_dir": Path("elsewhere"), "workers": 0, "damaged_images": "skip"}
    elsewhere |= {"backend": "reference", "memory": "store"}
    again = run(replace(config, **elsewhere), tmp_path, resume=True)
    assert of(EpochDone, again) == []
    assert again[-1] == first[-1]


def test_resume_from_the_checkpoint_before_a_damaged_one(tiny, tmp_path):
    config = replace(tiny, epochs=3)
    run(config, tmp_path)
    wanted = outcome(tmp_path)
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    events = run(config, tmp_path, resume=True)
    (notice,) = of(Notice, events)
    assert "going on from checkpoint.previous.pt, epoch 2" in notice.text
    assert outcome(tmp_path) == wanted


def test_resume_with_other_settings_is_refused(tiny, tmp_path):
    run(replace(tiny, epochs=2), tmp_path)
    with pytest.raises(UserError, match="--batch-size is 32, but the run to resume has 48"):
        run(replace(tiny, epochs=2, batch_size=32), tmp_path, resume=True)


@pytest.mark.parametrize("file", ["metrics", "architecture"])
def test_an_epoch_that_cannot_be_written_whole_is_searched_again(tiny, tmp_path, monkeypatch, file):
    """The checkpoint, which makes it count, comes last."""
    config = replace(tiny, epochs=3)
    run(config, tmp_path / "whole")
    calls, append = count(), getattr(RunFolder, f"append_{file}")

    def full_disk(folder, values):
        if next(calls) == 1:
            raise UserError("no space left on device")
        append(folder, values)

    monkeypatch.setattr(RunFolder, f"append_{file}", full_disk)
    with pytest.raises(UserError, match="no space left"):
        run(config, tmp_path / "run")
    (started,) = of(Started, run(config, tmp_path / "run", resume=True))
    assert started.epochs_done == 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [{}, {"sampling": "random", "hessian": True}, {"precision": "bf16"}],
    ids=["plain", "random", "bf16"],
)
def test_asked_to_stop_at_any_step_and_resumed_is_as_if_never_stopped(tiny, tmp_path, changes):
    config = replace(tiny, epochs=3, **changes)
    run(config, tmp_path / "whole")
    folder = tmp_path / "stopped"
    epoch = [False] * (6 + 6)  # steps, and batches of the validation
    asked = iter([*epoch, False, True, *[False] * 3, True, False, True])
    events = list(search(config, folder, stop=lambda: next(asked)))
    assert events[-1] == Stopped(epoch=1, step=2)
    events = list(search(config, folder, resume=True, stop=lambda: next(asked)))
    assert events[-1] == Stopped(epoch=1, step=6)  # the epoch's last step, not yet validated
    events = list(search(config, folder, resume=True, stop=lambda: next(asked)))
    assert events[-1] == Stopped(epoch=1, step=6)  # in the middle of the validation
    assert next(asked, None) is None
    assert len(read_lines(folder / "metrics.jsonl")) == 1
    run(config, folder, resume=True)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_asked_to_stop_with_weights_that_are_not_numbers_keeps_the_checkpoint(tiny, tmp_path):
    config = replace(tiny, learning_rate=3e38, weight_decay=1e3)
    with pytest.raises(UserError, match=r"the weights are no longer finite \(epoch 0\)"):
        list(search(config, tmp_path, stop=lambda: True))
    assert not (tmp_path / "checkpoint.pt").exists()
