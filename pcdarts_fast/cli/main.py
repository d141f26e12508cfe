"""`pcdarts`: finds the command, and turns what went wrong into one sentence."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import UserError, did_you_mean
from ..run.launcher import rank
from ..run.openmp import wait_briefly
from ..run.versions import installed_version
from .interrupted import Interrupted

COMMANDS = {
    "search": "find a cell for your images",
    "train": "train the network of a genotype from scratch",
    "compare": "train several genotypes on one budget and rank them",
    "report": "one HTML page about a run, or several side by side",
    "count": "parameters and multiply-adds of a genotype's network",
    "show": "draw a genotype, or print it",
    "export": "a trained network as ONNX, torch.export, weights or Python code",
    "completion": "a script that completes commands and options in your shell",
    "info": "version, backends and instruction sets of this machine",
}
"""Name -> what it does. `main(args)` of the module of that name runs it, imported when needed."""

OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory")
"""What PyTorch says of GPUs, and of the CPU."""

EXAMPLES = """\
pcdarts search                                    digits, from scikit-learn
pcdarts search --preset cifar10 --data-dir data   the setting of the paper
pcdarts train --genotype runs/search-digits/genotype.json --preset digits
pcdarts show PC_DARTS_cifar -o cell.svg"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs `pcdarts` and returns its exit code.

    0; 2 when the user can mend what went wrong; 130 after Ctrl-C, 143 after SIGTERM, 129 where the
    terminal was closed, 141 where nothing reads what a run prints any more.
    """
    name, *rest = (sys.argv[1:] if args is None else list(args)) or ["--help"]
    try:
        if name in ("-h", "--help"):
            print(overview())
            return 0
        if name == "--version":
            print(f"pcdarts_fast {installed_version('pcdarts_fast') or 'not installed'}")
            return 0
        wait_briefly()  # torch has not been imported yet
        if name not in COMMANDS:
            hint = did_you_mean(name, COMMANDS)
            raise UserError(f"no command {name!r}{hint}; wanted one of {', '.join(COMMANDS)}")
        return int(import_module(f".{name}", __package__).main(rest))
    except Interrupted as stopped:
        if rank() == 0:
            print(f"\npcdarts: {stopped}", file=sys.stderr)
        return stopped.exit_code
    except BrokenPipeError:  # `pcdarts ... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (UserError, OSError) as error:
        print(f"pcdarts{f' (process {rank()})' if rank() else ''}: {error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        said = (str(error) or "of the system").splitlines()[0]
        print(
            f"pcdarts: not enough memory ({said:.120}); take a smaller --batch-size",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\npcdarts: stopped", file=sys.stderr)
        return 130


def overview() -> str:
    """What plain `pcdarts` prints."""
    commands = "\n".join(f"  {name:12}{does}" for name, does in COMMANDS.items())
    examples = "\n".join(f"  {line}" for line in EXAMPLES.splitlines())
    return (
        "pcdarts: PC-DARTS architecture search with fused operators\n\n"
        f"usage: pcdarts COMMAND [OPTIONS]\n\n{commands}\n\nexamples:\n{examples}\n\n"
        "`pcdarts COMMAND --help` says more about a command."
    )
