"""The run folder: what a search or a training writes while it runs, and what resumes it.

    config.yaml         the settings, as one typed dataclass
    environment.json    versions, device, backend, seed
    metrics.jsonl       one object an epoch
    architecture.jsonl  alpha and beta after every epoch (search only)
    genotype.json       the genotype after the latest epoch, or the one that is trained
    naive.json          seconds of a step, and of a naive one (search only, at the end)
    checkpoint.pt       everything a resumed run needs; checkpoint.previous.pt is the one before,
                        checkpoint.next.pt a whole one that a kill kept from taking its place
    weights.safetensors the trained network (training only, at the end)
    .lock               keeps a second process out

Pictures, page and TensorBoard's files are made of these by `report`.

An epoch counts from its checkpoint on: `cut_back` drops the lines of later epochs on resume, so
that a run killed anywhere and resumed writes the same lines as one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import UserError
from ..files import append_line, left_by_a_kill, write_atomically, writing
from .seeds import SEED

LOCK = ".lock"


class RunFolder:
    """An open run folder, to be used with `with`: one process at a time holds it."""

    def __init__(self, path: Path) -> None:
        """Use `RunFolder.create` or `RunFolder.open`."""
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.architecture = path / "architecture.jsonl"
        self.genotype = path / "genotype.json"
        self.naive = path / "naive.json"
        self.weights = path / "weights.safetensors"
        self.checkpoint = path / "checkpoint.pt"
        self.next_checkpoint = path / "checkpoint.next.pt"
        self.previous_checkpoint = path / "checkpoint.previous.pt"
        self._lock = FileLock(path / LOCK, blocking=False)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A fresh folder, parents included.

        Raises:
            UserError: `path` holds something already, is no folder, or cannot be made.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"output folder {path} is a file; choose another --output-dir")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            if any(entry.name != LOCK and not left_by_a_kill(entry) for entry in path.iterdir()):
                raise UserError(
                    f"output folder {path} is not empty; choose another --output-dir, "
                    "or add --resume to continue the run in it"
                )
        return cls(path)._locked()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of a run that was begun before.

        Raises:
            UserError: there is no run in `path`, or another process is using it.
        """
        return cls(path).check_begun()._locked()

    @property
    def begun(self) -> bool:
        """Whether a run has left its settings here."""
        return self.config.is_file()

    @property
    def is_search(self) -> bool:
        """Whether the run, if there is one, is a search; else it is a training."""
        return self.architecture.exists() or b"\nprimitives:" in self.config.read_bytes()

    def check_begun(self) -> RunFolder:
        """Raises UserError when there is no run to resume."""
        if not self.begun:
            seeds = any(self.path.glob(f"{SEED}*/{self.config.name}"))
            raise UserError(
                f"no run to resume in {self.path}: it holds no {self.config.name}; "
                + (
                    "it is a folder of --seeds: give that option again, and no --resume"
                    if seeds
                    else "leave out --resume to begin one"
                )
            )
        return self

    def check_holds_others(self) -> None:
        """Raises UserError where a run lies in a folder that is to hold several: its genotype would
        be lost.
        """
        if self.begun:
            raise UserError(
                f"output folder {self.path} is that of a single run; choose another --output-dir"
            )

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets other processes use the folder; one in which no run has begun goes away again."""
        unused = self._lock.is_locked and not self.begun
        if unused:
            (self.path / LOCK).unlink(missing_ok=True)  # while nobody else can hold it
        self._lock.release()
        if unused:
            with suppress(OSError):  # it is not empty
                self.path.rmdir()

    def write_genotype(self, text: str) -> None:
        """Replaces genotype.json in one step; `text` is `Genotype.to_json()`."""
        write_atomically(self.genotype, text.encode())

    def append_metrics(self, values: Mapping[str, Any]) -> None:
        """Adds an epoch's line to metrics.jsonl; `values["epoch"]` counts from 0."""
        append_line(self.metrics, json.dumps(dict(values)))

    def append_architecture(self, values: Mapping[str, Any]) -> None:
        """Adds an epoch's line to architecture.jsonl; `values["epoch"]` counts from 0."""
        append_line(self.architecture, json.dumps(dict(values)))

    def environments(self) -> list[dict[str, Any]]:
        """What environment.json tells of every start of the run; nothing when there is no file.

        Raises:
            UserError: it holds something else.
        """
        path = self.environment
        try:
            records = json.loads(path.read_bytes()) if path.exists() else []
        except (ValueError, RecursionError):  # of JSON, or of UTF-8
            records = None
        if not isinstance(records, list) or any(type(record) is not dict for record in records):
            raise UserError(f"{path} is damaged; take it away, the run can do without")
        return records

    def cut_back(self, epochs: int) -> None:
        """Drops every line of epoch `epochs` or later, and a last line that was never finished.

        Raises:
            UserError: a line of an epoch before `epochs` is missing or unreadable.
        """
        for path in (self.metrics, self.architecture):
            if path.exists():
                kept = [line for line in read_lines(path) if line["epoch"] < epochs]
                content = "".join(json.dumps(line) + "\n" for line in kept)
                write_atomically(path, content.encode())
        if epochs and [line["epoch"] for line in read_lines(self.metrics)] != list(range(epochs)):
            raise UserError(
                f"{self.metrics} does not hold the {epochs} epochs of the checkpoint beside it; "
                "start again in another --output-dir"
            )

    def _locked(self) -> RunFolder:
        with writing(self.path):
            try:
                self._lock.acquire()
            except Timeout:
                raise UserError(
                    f"run folder {self.path} is in use by another process; "
                    "wait for its end, or choose another --output-dir"
                ) from None
            for entry in filter(left_by_a_kill, list(self.path.iterdir())):
                entry.unlink()
        return self


def free_folder(parent: Path, name: str) -> Path:
    """Makes `parent/name`, or the first of `parent/name-2`, `-3`, ... that did not exist.

    Raises:
        UserError: it cannot be made.
    """
    folder, number = parent / name, 1
    while True:
        with writing(folder):
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                if parent.is_symlink() and not parent.exists():
                    raise UserError(
                        f"{parent} is a link to nothing; mend it, or choose an --output-dir"
                    ) from None
                number += 1
                folder = parent / f"{name}-{number}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file in order; none when there is no file.

    A last line without a line end was being written when the run was killed: it is left out.

    Raises:
        UserError: a finished line is no JSON object with an epoch.
    """
    if not path.exists():
        return []
    finished = path.read_bytes().split(b"\n")[:-1]
    lines = []
    for number, text in enumerate(finished, 1):
        try:
            line = json.loads(text)
            whole = type(line) is dict and type(line.get("epoch")) is int
        except (ValueError, RecursionError):  # of JSON, or of UTF-8
            whole = False
        if not whole:
            raise UserError(f"{path}, line {number} is damaged: {text!r:.60}")
        lines.append(line)
    return lines
