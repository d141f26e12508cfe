"""Kills searches at random points and resumes them: `python tests/faults/kill.py COUNT SEED`.

Half of the kills come at a random time, half at a random one of the calls that put files on the
disk, with a part of the file written. Every search must end as one that nothing disturbed. Children
are forked from this process, which has loaded torch but has no threads yet.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from pcdarts_fast.run.folder import RunFolder
from pcdarts_fast.search import search
from pcdarts_fast.testing.outcome import outcome
from pcdarts_fast.testing.tiny_search import TINY

CONFIG = replace(TINY, epochs=4)


def run(folder: Path, die_at: int | None = None) -> int:
    """One start of the search in a child; kills itself at write number `die_at`.

    Returns the number of writes of a run that ends, -1 for one that was killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        writes = count_writes(die_at)
        for _ in search(CONFIG, folder, resume=RunFolder(folder).begun):
            pass
        os.write(writer, json.dumps(len(writes)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    return int(written) if status == 0 else -os.WTERMSIG(status)


def count_writes(die_at: int | None) -> list[str]:
    """Wraps what `files.py` calls; a child that dies leaves its file without the last bytes."""
    writes: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def counted(*args, name=name, original=original):
            writes.append(name)
            if len(writes) == die_at:
                if name == "fsync":
                    os.ftruncate(args[0], os.fstat(args[0]).st_size - 10)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        setattr(os, name, counted)
    return writes


def run_until(folder: Path, seconds: float) -> bool:
    """One start, killed after `seconds`; whether it was killed."""
    child = os.fork()
    if not child:
        for _ in search(CONFIG, folder, resume=RunFolder(folder).begun):
            pass
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] != 0


def main(count: int, seed: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as parent:
        whole = Path(parent) / "whole"
        start = time.perf_counter()
        writes = run(whole)
        duration = time.perf_counter() - start
        assert writes > 0, "the undisturbed search failed"
        wanted = outcome(whole)
        for number in range(count):
            folder = Path(parent) / str(number)
            kills = 0
            for _ in range(draw.randint(1, 3)):
                if draw.random() < 0.5:
                    point = f"write {(die_at := draw.randint(1, writes))} of {writes}"
                    killed = run(folder, die_at) == -signal.SIGKILL
                else:
                    point = f"{(seconds := draw.uniform(0, duration)):.2f} s"
                    killed = run_until(folder, seconds)
                kills += killed
                print(f"search {number}: {'killed at' if killed else 'ended before'} {point}")
            assert run(folder) > 0, f"search {number} does not go on after {kills} kills"
            assert outcome(folder) == wanted, f"search {number} ends otherwise"
            left = {path.name for path in folder.iterdir()}
            assert not [name for name in left if name.endswith(".tmp")], left
    print(f"{count} searches end like the one that nothing disturbed")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
