"""`pcdarts completion`: the shells themselves complete commands, options and values."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.cli.main import COMMANDS

SHELLS = {"bash": "complete -F", "zsh": "#compdef pcdarts", "fish": "complete --no-files --command"}
WITH_FILES = ("pcdarts report ru", "pcdarts train --genotype PC", "pcdarts show x")
"""Where bash has file names to offer, and tyro nothing."""
TYPED = {
    "pcdarts sea": "search",
    "pcdarts search --frozen": "--frozen-epochs",
    "pcdarts search --stem im": "imagenet",
}
"""Before the tab key -> the word that it makes of the last one."""
SECONDS = 60
"""For a shell to answer in, on a busy machine."""


@pytest.fixture
def script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """What `pcdarts completion` prints for the shell, under the name that zsh looks for."""
    assert main(["completion", shell]) == 0
    (tmp_path / "_pcdarts").write_text(capsys.readouterr().out)
    return tmp_path / "_pcdarts"


def need(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")


@pytest.mark.parametrize("shell", SHELLS)
def test_knows_every_command_and_option(script: Path) -> None:
    text = script.read_text()
    assert any(mark in text for mark in SHELLS.values())
    assert all(name in text for name in COMMANDS)
    for option in ("frozen-epochs", "genotype", "image-size", "auxiliary-weight"):
        assert option in text


def offered_by_bash(script: Path, typed: str) -> list[str]:
    words = typed.split()
    program = (
        "source _pcdarts; function=$(complete -p pcdarts); "
        "function=${function##*-F }; function=${function%% *}; "
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE='{typed}'; COMP_POINT=${{#COMP_LINE}}; "
        f"$function pcdarts {words[-1]} {words[-2]}; "
        "((${#COMPREPLY[@]} == 0)) || printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", program], cwd=script.parent, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash"])
@pytest.mark.parametrize(
    ("typed", "completed"), [*TYPED.items(), *((typed, "") for typed in WITH_FILES)]
)
def test_bash_completes(script: Path, shell: str, typed: str, completed: str) -> None:
    need(shell)
    assert offered_by_bash(script, typed) == [completed] * bool(completed)
    assert "complete -o default -F _pcdarts pcdarts" in script.read_text()


@pytest.mark.parametrize("shell", ["bash"])
def test_bash_offers_no_lines_of_help(script: Path, shell: str) -> None:
    need(shell)
    offered = offered_by_bash(script, "pcdarts search --")
    assert len(offered) > 40 and all(line.startswith("--") for line in offered), offered


@pytest.mark.parametrize("shell", ["fish"])
@pytest.mark.parametrize(("typed", "completed"), TYPED.items())
def test_fish_completes(script: Path, shell: str, typed: str, completed: str) -> None:
    need(shell)
    done = subprocess.run(
        [shell, "-c", f"source _pcdarts; complete -C '{typed}'"],
        env={**os.environ, "HOME": str(script.parent)},
        cwd=script.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [completed]


@pytest.mark.parametrize("shell", ["zsh"])
def test_zsh_completes(script: Path, shell: str) -> None:
    """zsh completes in its line editor only, so somebody types."""
    need(shell)
    child, terminal = pty.fork()
    if not child:
        os.chdir(script.parent)
        os.execvpe(shell, [shell, "-f", "-i"], {**os.environ, "TERM": "dumb"})
    try:
        os.write(
            terminal, b"fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo re''ady\n"
        )
        read_until(terminal, "ready")
        for typed, completed in TYPED.items():
            os.write(terminal, f"{typed}\t".encode())
            read_until(terminal, f"{typed.rpartition(' ')[0]} {completed} ")
            os.write(terminal, b"\x15")  # Ctrl-U: an empty line again
    finally:
        os.close(terminal)  # hangs up
        os.waitpid(child, 0)


def read_until(terminal: int, wanted: str) -> None:
    """Reads what the terminal shows until it has shown that."""
    shown, deadline = "", time.monotonic() + SECONDS
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"wanted {wanted!r}, got {shown!r}"
        shown += os.read(terminal, 4096).decode(errors="replace")
