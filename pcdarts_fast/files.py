"""Writing a file so that a kill or a full disk leaves the old one or the new one, never a half."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` in one step: temporary file beside it, fsync, rename.

    A link stays one: what it leads to is replaced.

    Raises:
        UserError: the disk is full, the folder is not writable, or `path` is a pipe or a device;
            it is as it was before.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with writing(path):
        if target.exists() and not target.is_file():
            raise UserError(f"cannot write {path}: it is no ordinary file; choose another place")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: object) -> None:
    """`write_atomically` of what is to be read by people too."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def check_parent(path: Path) -> None:
    """Raises UserError where the folder that `path` is to lie in does not exist."""
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it first")


def left_by_a_kill(path: Path) -> bool:
    """Whether `path` is a temporary file of `write_atomically`."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def append_line(path: Path, line: str) -> None:
    """Adds one line to `path` and flushes it to the disk.

    Raises:
        UserError: the disk is full or `path` is not writable.
    """
    with writing(path), open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the system's error about `path` into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}; what was written "
            "before is intact: make room, or choose another place. A run goes on with --resume"
        ) from error
