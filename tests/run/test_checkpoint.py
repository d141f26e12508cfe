"""Checkpoints: exact, safe to load, and what happens when one is damaged."""

from __future__ import annotations

import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from pcdarts_fast.errors import UserError
from pcdarts_fast.run.checkpoint import load_checkpoint, load_optimizer, save_checkpoint
from pcdarts_fast.run.folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    """Holds the checkpoints of epochs 1 and 2."""
    with RunFolder.create(tmp_path / "run") as folder:
        for epoch in (1, 2):
            save_checkpoint(folder, {"epoch": epoch, "weights": torch.full((1000,), epoch / 3)})
        yield folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def flip_a_bit(path):
    """In the middle of the weights: the archive's directory stays whole."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 2000] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])


def test_newest_checkpoint_comes_back_in_the_same_bits(folder):
    state, note = load_checkpoint(folder)
    assert (state["epoch"], note) == (2, None)
    assert torch.equal(state["weights"], torch.full((1000,), 2 / 3))


def test_run_stopped_before_its_first_checkpoint(tmp_path):
    with RunFolder.create(tmp_path) as folder:
        assert load_checkpoint(folder) == (None, None)


@DAMAGE
def test_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(folder, damage):
    damage(folder.checkpoint)
    state, note = load_checkpoint(folder)
    assert state["epoch"] == 1
    assert "checkpoint.pt is truncated or damaged; going on from checkpoint.previous.pt, " in note


@DAMAGE
def test_no_whole_checkpoint_is_one_sentence(folder, damage):
    damage(folder.checkpoint)
    damage(folder.previous_checkpoint)
    with pytest.raises(UserError, match=r"checkpoint.pt is truncated .*no older one is whole"):
        load_checkpoint(folder)


@pytest.mark.parametrize("damaged", [False, True])
def test_kill_between_the_two_renames_loses_nothing(folder, damaged, monkeypatch):
    """Nor where the older one was damaged, and took the place of the only other whole one."""
    if damaged:
        truncate(folder.checkpoint)
    rename = os.replace

    def kill(source, target):
        if target == folder.checkpoint:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, {"epoch": 3})
    assert load_checkpoint(folder) == ({"epoch": 3}, None)
    monkeypatch.undo()
    save_checkpoint(folder, {"epoch": 4})
    assert load_checkpoint(folder) == ({"epoch": 4}, None)


def test_checkpoint_cannot_run_code(folder):
    class Harm:
        def __reduce__(self):
            return (os.system, ("true",))

    torch.save({"epoch": 3, "harm": Harm()}, folder.checkpoint, pickle_module=pickle)
    state, note = load_checkpoint(folder)
    assert state["epoch"] == 1 and "damaged" in note


def test_checkpoints_that_were_taken_away_are_missed(folder):
    for path in (folder.checkpoint, folder.previous_checkpoint):
        path.unlink()
    for number, done in enumerate((r"\(1 epoch\)", r"\(2 epochs\)")):
        folder.append_metrics({"epoch": number})
        with pytest.raises(UserError, match=f"checkpoint.pt is missing, .* has done {done}"):
            load_checkpoint(folder)


def test_an_optimizer_takes_over_what_it_remembers_and_keeps_its_settings():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    before = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    before.step()
    after = torch.optim.SGD([weight], lr=0.5, momentum=0.8)
    load_optimizer(after, before.state_dict())
    assert after.state[weight]["momentum_buffer"].tolist() == [1.0, 2.0]
    assert (after.param_groups[0]["lr"], after.param_groups[0]["momentum"]) == (0.5, 0.8)
    other = before.state_dict()
    other["state"][0]["momentum_buffer"] = torch.ones(3)
    with pytest.raises(ValueError, match="remembers of parameter 0 does not fit it"):
        load_optimizer(after, other)
