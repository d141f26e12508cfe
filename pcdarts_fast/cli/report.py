"""`pcdarts report`: one HTML file that tells what runs did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UserError
from ..files import check_parent
from .parse import parse

EXAMPLES = """\
pcdarts report runs/search-digits
pcdarts report runs/search-digits runs/search-digits-2 -o report.html"""

PAGE = "report.html"
"""Its name in a run folder."""


@dataclass(frozen=True)
class Report:
    """Writes a self-contained HTML page about runs, several of them side by side."""

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="RUN...", help_behavior_hint="(required)"),
    ]
    """Run folders; a folder of `search --seeds` or of `compare` stands for all runs in it."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The page; None: report.html in the run folder, or here for several."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when the page is written.

    Raises:
        UserError: a folder holds no run, a file in it is damaged, or the page cannot be written.
    """
    command = parse(Report, args, examples=EXAMPLES)
    if not command.runs:
        raise UserError("no run to report on; name its folder, such as runs/search-digits")
    # Takes seconds to import.
    from ..report.page import write_report

    output = command.output or (command.runs[0] if len(command.runs) == 1 else Path()) / PAGE
    if command.output:
        check_parent(output)
    write_report(command.runs, output)
    print(f"Written: {output}")
    return 0
