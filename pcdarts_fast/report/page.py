"""A report of runs: one HTML file that needs no network, no other file and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..files import write_atomically
from ..run.config import SearchConfig
from ..run.versions import installed_version
from . import architecture, cells
from .architecture import Movement
from .commands import Command, changed_settings, commands
from .curves import Plot, plots
from .figures import Figure, figures, table
from .read import Run, read_runs

HERE = Path(__file__).parent
LONGEST = 300
"""Characters of a value that are shown."""


@dataclass(frozen=True)
class View:
    """All that the page shows of one run."""

    run: Run
    lead: str
    figures: list[Figure]
    cells: list[tuple[str, Markup, list[str]]]
    """Title, drawing and words."""
    plots: list[Plot]
    movements: list[Movement]
    primitives: list[tuple[str, int]]
    sources: list[tuple[str, int]]
    settings: list[tuple[str, str, bool]]
    """Name, value, and whether the preset has another."""
    environments: list[list[tuple[str, str]]]
    commands: list[Command]


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Writes the report of the runs in `folders` to `path`; the same files give the same bytes.

    A folder of `search --seeds` counts as the runs in it.

    Raises:
        UserError: a folder holds no run, a file in it is damaged, or `path` cannot be written.
    """
    content = render(read_runs(folders))
    # A lone surrogate can stand in JSON, but not in UTF-8.
    write_atomically(path, content.encode("utf-8", "replace"))


def render(runs: Sequence[Run]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        version=installed_version("pcdarts_fast"),
        views=[_view(run, own) for run, own in zip(runs, plots(runs), strict=True)],
        rows=table(runs),
    )


def _view(run: Run, charts: list[Plot]) -> View:
    searched = isinstance(run.config, SearchConfig)
    return View(
        run=run,
        lead=_lead(run),
        figures=figures(run),
        cells=_cells(run),
        plots=charts,
        movements=architecture.movements(run),
        primitives=architecture.legend(run) if searched else [],
        sources=architecture.source_legend(run) if searched else [],
        settings=_settings(run),
        environments=[_flat(record) for record in run.environments],
        commands=commands(run),
    )


def _lead(run: Run) -> str:
    done = "" if run.finished else f", stopped after {len(run.metrics)} of them"
    epochs = f"{run.config.epochs} epoch{'s' * (run.config.epochs != 1)}"
    if isinstance(run.config, SearchConfig):
        what = f"A search for a cell on {run.config.preset}"
    else:
        what = f"A network trained from scratch on {run.config.preset}"
    backend = run.environments[-1].get("backend") if run.environments else None
    engine = f", {backend} backend" if isinstance(backend, str) and backend != "torch" else ""
    return f"{what}: {epochs}{done}, seed {run.config.seed}{engine}."


def _cells(run: Run) -> list[tuple[str, Markup, list[str]]]:
    if run.genotype is None:
        return []
    drawings, words = cells.draw_cells(run.genotype), cells.sentences(run.genotype)
    return [(title, drawings[kind], words[kind]) for kind, title in cells.TITLES.items()]


def _settings(run: Run) -> list[tuple[str, str, bool]]:
    changed = changed_settings(run.config)
    rows = []
    for field in fields(run.config):
        value = getattr(run.config, field.name)
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        rows.append((field.name.replace("_", " "), text[:LONGEST], field.name in changed))
    return rows


def _flat(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of an environment; those of packages by package."""
    rows = []
    for name, value in record.items():
        if isinstance(value, dict):
            rows += [(str(key), str(inner)[:LONGEST]) for key, inner in value.items()]
        else:
            rows.append((name.replace("_", " "), str(value)[:LONGEST]))
    return rows
