"""Real file systems that are full, read-only or tiny, in a mount namespace of the test's own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pcdarts_fast.testing.tiny_search import environment, tiny_options

CAN_MOUNT = (
    subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    ).returncode
    == 0
)
pytestmark = pytest.mark.skipif(not CAN_MOUNT, reason="mounting needs root and namespaces")


def in_a_namespace(mount: str, options: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A search where `mount` has been called before."""
    search = shlex.join([sys.executable, "-m", "pcdarts_fast", "search", *options])
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount}\n{search}"],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=environment(),
    )


def test_full_disk_stops_in_one_sentence_and_with_room_again_the_run_ends(tmp_path):
    (tmp_path / "disk").mkdir()
    options = [*tiny_options(epochs=3), "--output-dir", "disk/run"]
    first = shlex.join([sys.executable, "-m", "pcdarts_fast", "search", *options])
    full = f"mount -t tmpfs -o size=64k tmpfs disk\n{first}\necho code $?\nls -A disk/run"
    room = "mount -o remount,size=20m disk"
    done = in_a_namespace(f"{full}\n{room}", [*options, "--resume"], tmp_path)
    assert done.stdout.count("code 2\n") == 1, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("pcdarts: cannot write disk/run/")
    assert "no space left on device; what was written before is intact" in sentence
    assert ".tmp" not in done.stdout


def test_read_only_folder_is_one_sentence(tmp_path):
    (tmp_path / "disk").mkdir()
    options = [*tiny_options(), "--output-dir", "disk/run"]
    done = in_a_namespace("mount -t tmpfs -o ro tmpfs disk", options, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("pcdarts: cannot write disk/run: read-only file system;")
    assert len(done.stderr.splitlines()) == 1


def test_no_room_for_the_images_of_workers_is_one_sentence(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for n in range(100):
            Image.new("RGB", (64, 64), (n, 0, 99)).save(tmp_path / "train" / name / f"{n}.png")
    options = tiny_options(
        preset="imagefolder",
        data_dir=Path("."),
        image_size=64,
        workers=1,
        train_fraction=0.5,
        valid_fraction=0.5,
    )
    done = in_a_namespace("mount -t tmpfs -o size=64k tmpfs /dev/shm", options, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pcdarts: a process that decodes images failed (")
    assert "--workers 0 needs no /dev/shm" in done.stderr
    assert len(done.stderr.splitlines()) == 1
