"""The live view of a terminal: the cells as they stand, in any terminal, and only in one."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from pcdarts_fast.cli.follow import follow
from pcdarts_fast.cli.live import LiveView
from pcdarts_fast.report.architecture import current_edges
from pcdarts_fast.report.read import read_run
from pcdarts_fast.run.events import EpochDone, Progress
from pcdarts_fast.run.stop import StopRequest


def started(folder) -> SimpleNamespace:
    return SimpleNamespace(folder=folder, epochs=8, epochs_done=4, steps=10, device="cpu")


def screen(view: LiveView, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    with console.capture() as captured:
        console.print(view)
    return re.sub(r"\x1b\[[0-9;]*m", "", captured.get()).rstrip("\n").split("\n")


@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (120, 40), (80, 19), (80, 18), (70, 15), (50, 24), (60, 8)]
)
def test_fits_the_terminal(make_search, width, height):
    folder = make_search(nodes=4)
    view = LiveView(started(folder))
    view.step(Progress(4, 5, loss=0.5, accuracy=0.875, images_per_second=1234.5))
    lines = screen(view, width, height)
    assert len(lines) < height and max(map(len, lines)) <= width
    assert "4/8" in lines[0] and "left" in lines[0]
    assert lines[1].startswith("loss 0.500  accuracy 87.5%  1,234 images/s  memo")
    text = "\n".join(lines)
    edges = {(80, 24): 28, (120, 40): 28, (80, 19): 28, (50, 24): 16, (60, 8): 0}
    edges = edges.get((width, height), 16)
    assert text.count("\u2192") == edges
    # Two edges for each of four nodes, twice, and the legend.
    assert text.count("\u25cf") == (16 + 1 if edges else 0)
    assert not [line for line in lines if "\u2192" in line and "\u2026" in line]


def test_an_ascii_terminal(make_search):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, width=80, height=40, force_terminal=True)
    console.print(LiveView(started(make_search(nodes=2))))
    file.flush()
    text = file.buffer.getvalue().decode("ascii")
    assert "* kept if it ended now" in text and "->1" in text


def test_tells_the_time_left_however_slow_the_steps_are(make_search):
    view = LiveView(started(make_search(nodes=2)))
    now = 0.0
    view._bar.get_time = lambda: now
    for step in range(1, 6):
        now += 100.0  # a hundredth of what is left, an hour and a half at first
        view.step(Progress(4, step, loss=0.5, accuracy=0.875, images_per_second=0.1))
    (line, *_) = screen(view, 80, 24)
    assert re.search(r"\d:\d\d:\d\d left", line), line


@pytest.mark.parametrize("width", [120, 106, 100, 80, 60, 44])
def test_shows_what_leads_and_what_is_kept(make_search, width):
    folder = make_search(nodes=2, spread=0.5)
    run = read_run(folder, "")
    lines = screen(LiveView(started(folder)), width, 40)
    overtaken = 0
    for kind in ("normal", "reduce"):
        for edge in current_edges(run, run.config, kind):
            assert sum(edge.shares.values()) == pytest.approx(1)
            assert edge.shares[edge.leading] == max(edge.shares.values())
            shown = edge.kept or edge.leading
            row = f"{edge.source}\u2192{edge.target} +{shown} +"
            if shown == edge.leading:
                row += f"{edge.shares[shown]:.2%}( |$)"
            else:
                overtaken += 1
                row += rf"(\d+\.\d\d% )?< {edge.leading}( |$)"
            assert any(re.search(row, line) for line in lines), row
    assert overtaken


def test_where_the_leader_has_no_room_a_mark_tells_of_it(make_search):
    lines = screen(LiveView(started(make_search(nodes=4, spread=0.01))), 66, 24)
    marked = [line for line in lines if re.search(r"\d% <( |$)", line)]
    assert marked and max(map(len, lines)) <= 66 and "\u2026" not in "".join(lines[2:])


def test_a_run_without_cells_has_its_bar(make_search):
    folder = make_search()
    (folder / "architecture.jsonl").unlink()
    lines = screen(LiveView(started(folder)), 80, 24)
    assert len(lines) <= 2 and "4/8" in lines[0]


@pytest.mark.parametrize("terminal", [True, False])
def test_plain_lines_where_there_is_no_terminal(make_search, terminal):
    folder = make_search()
    events = iter(
        [
            started(folder),
            Progress(4, 5, 0.5, 0.8, 100.0),
            EpochDone({"epoch": 4}),
            SimpleNamespace(last=True),
        ]
    )
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=terminal)
    last = follow(
        events,
        console,
        StopRequest(),
        go_on="",
        introduce=lambda _: "begun",
        summarize=lambda _: "summary",
    )
    assert last.last
    text = out.getvalue()
    assert "begun" in text and "epoch 5/8  summary" in text
    assert ("\x1b[" in text) == terminal
    assert terminal or text == "begun\nepoch 5/8  summary\n"
