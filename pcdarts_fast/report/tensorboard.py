"""What a run tells, written for TensorBoard on its way to whoever follows the run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from matplotlib.image import imread

from ..errors import UserError
from ..run.config import SearchConfig
from ..run.events import EpochDone
from ..space import CELLS, Genotype, cell_edges, edges_into
from .architecture import current_edges, softmax
from .draw import render
from .read import Run, read_run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

E = TypeVar("E")

FOLDER = "tensorboard"
GROUPS = ("loss", "accuracy", "entropy")
"""Scalars of which a chart shows several."""


def open_board(folder: Path, epochs_done: int) -> SummaryWriter:
    """A writer to `folder/tensorboard`; what an earlier start wrote of later epochs is void."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder / FOLDER, purge_step=epochs_done + 1)


def check_installed() -> None:
    """Raises UserError where the package tensorboard is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise UserError(
            "--tensorboard needs the package tensorboard: pip install tensorboard, "
            "or install pcdarts_fast with its extra of that name"
        ) from None


def logged(events: Iterator[E]) -> Iterator[E]:
    """The same events; the first one names the run's folder, and every epoch is written there.

    Steps are epochs, from 1: scalars of metrics.jsonl; softmax of alpha and beta, an edge; and,
    whenever it changes, the genotype as text and as a picture.
    """
    started: Any = next(events)
    yield started
    board = open_board(started.folder, started.epochs_done)
    shown: Genotype | None = None
    try:
        for event in events:
            if isinstance(event, EpochDone):
                run = read_run(started.folder, "")
                step = event.metrics["epoch"] + 1
                _write_scalars(board, event.metrics, step)
                _write_shares(board, run, step)
                if run.genotype not in (None, shown):
                    shown = run.genotype
                    _write_genotype(board, shown, step)
                board.flush()
            yield event
    finally:
        board.close()


def _write_scalars(board: Any, metrics: dict[str, Any], step: int) -> None:
    for name, value in metrics.items():
        group = next((group for group in GROUPS if group in name), "run")
        if name != "epoch":
            board.add_scalar(f"{group}/{name}", value, step)


def _write_shares(board: Any, run: Run, step: int) -> None:
    if not isinstance(run.config, SearchConfig):
        return
    for kind in CELLS:
        beta = run.betas[kind][-1]
        edges = zip(cell_edges(run.config.nodes), current_edges(run, run.config, kind), strict=True)
        for number, (edge, now) in enumerate(edges):
            name = f"{now.source}_to_{now.target}"
            for primitive, share in now.shares.items():
                board.add_scalar(f"alpha_{kind}/{name}/{primitive}", share, step)
            if run.config.edge_normalization:
                into = edges_into(edge.target)
                share = softmax(beta[into])[number - into.start]
                board.add_scalar(f"beta_{kind}/{name}", share, step)


def _write_genotype(board: Any, genotype: Genotype, step: int) -> None:
    indented = genotype.to_json().replace("\n", "\n    ")
    board.add_text("genotype", f"    {indented}", step)
    pixels = imread(io.BytesIO(render(genotype, ".png")))  # [H, W, 4]
    board.add_image("cells", pixels, step, dataformats="HWC")
