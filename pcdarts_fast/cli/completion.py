"""`pcdarts completion`: a script that completes every command and option in a shell."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Union

import tyro

from .parse import parse

EXAMPLES = """\
source <(pcdarts completion bash)
pcdarts completion zsh > ~/.zfunc/_pcdarts
pcdarts completion fish > ~/.config/fish/completions/pcdarts.fish"""


ELSE_FILES = """
_pcdarts() {
  _tyro_pcdarts "$@"
  local matches=("${COMPREPLY[@]}") match
  COMPREPLY=()
  for match in "${matches[@]}"; do  # no completion has a space: that is a line of its description
    [[ -z $match || $match == *" "* ]] || COMPREPLY+=("$match")
  done
}
complete -o default -F _pcdarts pcdarts
"""
"""Behind tyro's script for bash: file names where it has nothing to offer."""


@dataclass(frozen=True)
class Completion:
    """Prints a script that completes commands, options and their values in your shell."""

    shell: Annotated[
        tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(metavar="SHELL")
    ]
    """bash, zsh or fish."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when it has printed.

    Raises:
        UserError: a shell that it does not know.
    """
    command = parse(Completion, args, examples=EXAMPLES)
    from .main import COMMANDS

    try:
        commands: Any = Union[tuple(_options(name, does) for name, does in COMMANDS.items())]  # noqa: UP007
        tyro.cli(commands, prog="pcdarts", args=["--tyro-print-completion", command.shell])
    except SystemExit as printed:
        if command.shell == "bash":
            print(ELSE_FILES, end="")
        return int(printed.code or 0)
    raise AssertionError("tyro prints a completion and exits")


def _options(name: str, does: str) -> Any:
    """The dataclass of a command: in the module of its name, named after it."""
    kind = getattr(import_module(f".{name}", __package__), name.capitalize())
    return Annotated[kind, tyro.conf.subcommand(name, description=does)]
