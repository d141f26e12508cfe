"""The run folder: who may have it, and what a kill or a full disk leaves in it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.files import append_line, write_atomically
from pcdarts_fast.run.environment import environment, record_environment
from pcdarts_fast.run.folder import LOCK, RunFolder, free_folder, read_lines


def begun(path: Path, epochs: int = 3) -> RunFolder:
    folder = RunFolder.create(path)
    folder.config.write_text("epochs: 5\n")
    for epoch in range(epochs):
        folder.append_metrics({"epoch": epoch, "train_loss": 1 / (epoch + 3)})
        folder.append_architecture({"epoch": epoch, "betas_normal": [0.1]})
    return folder


def test_folder_is_made_with_its_parents_and_an_empty_one_is_taken(tmp_path):
    with RunFolder.create(tmp_path / "a" / "b") as folder:
        assert folder.path.is_dir()
    with RunFolder.create(tmp_path / "a" / "b"):
        pass


def test_folder_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(
        UserError, match=r"is not empty; choose another --output-dir, or .*--resume"
    ):
        RunFolder.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_kill_left_of_a_file_is_cleared_away(tmp_path):
    (tmp_path / ".config.yaml.123.tmp").write_text("epo")
    with RunFolder.create(tmp_path):
        assert not list(tmp_path.glob(".*.tmp"))
    begun(tmp_path / "run").__exit__()
    (tmp_path / "run" / ".checkpoint.pt.123.tmp").write_bytes(bytes(9))
    (tmp_path / "run" / ".notes.tmp").touch()
    with RunFolder.open(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").glob(".*.tmp")] == [".notes.tmp"]


def test_folder_that_is_a_file_or_under_one_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write .*not a directory"):
        RunFolder.create(tmp_path / "file" / "run")


def test_folder_on_a_read_only_disk(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot write .*/run: read-only file system"):
        RunFolder.create(tmp_path / "run")


def test_two_processes_cannot_share_a_folder(tmp_path):
    with begun(tmp_path), pytest.raises(UserError, match=r"in use by .* wait for its end"):
        RunFolder.open(tmp_path)
    with RunFolder.open(tmp_path):
        pass


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UserError, match=r"no run to resume in .*: it holds no .*; leave out"):
        RunFolder.open(tmp_path / "nothing")


def test_free_folder_counts_up(tmp_path):
    (tmp_path / "search-digits-2").write_text("a file")
    names = [free_folder(tmp_path, "search-digits").name for _ in range(3)]
    assert names == ["search-digits", "search-digits-3", "search-digits-4"]


def test_free_folder_behind_a_link_to_nothing(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "not mounted")
    with pytest.raises(UserError, match="runs is a link to nothing"):
        free_folder(tmp_path / "runs", "search-digits")


def test_a_link_is_kept_and_a_pipe_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"content"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: it is no ordinary file"):
        write_atomically(tmp_path / "pipe", b"content")
    with pytest.raises(UserError, match="file name too long"):
        write_atomically(tmp_path / ("long" * 100), b"content")
    assert (tmp_path / "pipe").is_fifo()


def test_cut_back_leaves_the_bytes_of_the_epochs_before(tmp_path):
    with begun(tmp_path / "short", epochs=2) as short, begun(tmp_path / "long", epochs=4) as folder:
        with open(folder.metrics, "a") as file:
            file.write('{"epoch": 4, "train_l')  # killed while writing
        folder.cut_back(2)
        assert folder.metrics.read_bytes() == short.metrics.read_bytes()
        assert folder.architecture.read_bytes() == short.architecture.read_bytes()


def test_cut_back_to_epochs_that_are_not_there(tmp_path):
    with begun(tmp_path, epochs=2) as folder:
        with pytest.raises(UserError, match="does not hold the 3 epochs of the checkpoint"):
            folder.cut_back(3)
        folder.metrics.write_text("nonsense\n")
        with pytest.raises(UserError, match=r"metrics.jsonl, line 1 is damaged: b'nonsense'"):
            folder.cut_back(2)


def test_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*genotype.json: no space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["genotype.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_full_disk_while_adding_a_line():
    with pytest.raises(UserError, match="cannot write /dev/full: no space left on device"):
        append_line(Path("/dev/full"), "{}")


def test_lines_come_back_as_written(tmp_path):
    with begun(tmp_path) as folder:
        assert [line["train_loss"] for line in read_lines(folder.metrics)] == [1 / 3, 1 / 4, 1 / 5]
    assert read_lines(tmp_path / "nothing.jsonl") == []


def test_environment_is_recorded_at_every_start_and_names_no_machine(tmp_path):
    with RunFolder.create(tmp_path) as folder:
        for seed in (1, 2):
            record_environment(folder, environment(backend="cpu", device="cpu", seed=seed))
        text = folder.environment.read_text()
        assert [record["seed"] for record in json.loads(text)] == [1, 2]
        assert {"torch", "numpy"} <= set(json.loads(text)[0]["packages"])
        assert os.uname().nodename not in text and "/" not in text
        for damaged in (b"[{", b"\xff", b"{}"):
            folder.environment.write_bytes(damaged)
            with pytest.raises(UserError, match=r"environment.json is damaged; take it away"):
                record_environment(folder, {})


def test_a_folder_in_which_nothing_began_goes_away_again(tmp_path):
    with RunFolder.create(tmp_path / "refused"):
        pass
    assert not (tmp_path / "refused").exists()
    with RunFolder.create(tmp_path / "begun") as folder:
        folder.config.write_text("epochs: 1")
    assert folder.begun


def test_a_lock_that_a_kill_left_is_no_content(tmp_path):
    (tmp_path / LOCK).touch()
    with RunFolder.create(tmp_path) as folder:
        folder.config.write_text("epochs: 1")
    assert folder.begun


def test_who_only_looks_into_a_folder_leaves_it_to_its_holder(tmp_path):
    with RunFolder.create(tmp_path / "run") as folder:
        with RunFolder(folder.path):  # as processes of a run do, other than the first
            pass
        assert (folder.path / LOCK).exists()
    assert not folder.path.exists()


def test_a_folder_is_free_again_as_soon_as_its_run_ends(tmp_path):
    with begun(tmp_path) as folder:
        pass
    with RunFolder.open(folder.path) as again:
        assert again.begun
