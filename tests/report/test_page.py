"""The report as text: complete, self-contained, honest about its scales, safe with any content."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.errors import UserError
from pcdarts_fast.report.curves import plots
from pcdarts_fast.report.figures import duration, size
from pcdarts_fast.report.page import HERE, write_report
from pcdarts_fast.report.read import read_run, read_runs
from pcdarts_fast.run.settings import load_settings, save_settings
from pcdarts_fast.space import PRIMITIVES, PUBLISHED
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.presets import train_config

PAYLOAD = (
    "</style></title></svg></pre><script>window.pwned=1</script><img src=x onerror=pwned=1>\"'"
)


class Elements(HTMLParser):
    """Counts elements, and collects attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def report(folders: list[Path], path: Path) -> Elements:
    write_report(folders, path)
    return Elements(path.read_text())


def test_a_search_is_told_whole(make_search, tmp_path):
    folder = make_search("mine")
    page = report([folder], tmp_path / "report.html")
    for wanted in (
        *("mine", "A search for a cell on digits: 4 epochs, seed 0, cpu backend."),
        *("Validation accuracy", "4 of 4", "6 min 0 s", "812 images/s", "812 MiB", "estimate"),
        "measured, of the process",
        *("Loss", "Accuracy", "Entropy of alpha", "Entropy of beta", "2.079 is undecided"),
        *("Normal cell: leading operation", "Reduction cell: beta of every node"),
        *("init channels", "backend", "3.12.1"),
        *PRIMITIVES,
    ):
        assert wanted in page.text, wanted
    edges, nodes = 2 * 5, 2 * 2
    assert page.tags["figure"] == 2 + 4 + 2 + edges + nodes
    assert page.attributes.count(("class", "chip")) == 2 * 2 * nodes // 2  # kept edges
    (naive,) = re.findall(r"naive (\d+) KiB, ([\d.]+) times as much", page.text)
    assert int(naive[0]) > 100 and float(naive[1]) > 3


def test_figures_are_of_the_best_epoch_and_of_the_highest_peak(make_search, tmp_path):
    folder = make_search()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1] |= {"valid_accuracy": 0.9875, "peak_memory_mib": 900.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report([folder], tmp_path / "report.html")
    assert "best 98.75% in epoch 2" in page.text and "900 MiB" in page.text


def test_curves_stand_under_their_names(make_search):
    run = read_run(make_search(), "run")
    halves = {"train": "train", "validation": "valid"}
    cells = {"normal cell": "normal", "reduction cell": "reduce"}
    wanted = {
        "Loss": [(name, f"{half}_loss") for name, half in halves.items()],
        "Accuracy": [(name, f"{half}_accuracy") for name, half in halves.items()],
        "Entropy of alpha": [(name, f"alpha_entropy_{kind}") for name, kind in cells.items()],
        "Entropy of beta": [(name, f"beta_entropy_{kind}") for name, kind in cells.items()],
    }
    for plot in plots([run])[0]:
        told = [(name, value) for name, _, value in plot.legend]
        form = ".2%" if plot.title == "Accuracy" else "#.4g"
        assert told == [(n, f"{run.metrics[-1][key]:{form}}") for n, key in wanted.pop(plot.title)]
    assert not wanted


def test_only_runs_of_a_kind_share_their_scales(make_search, tmp_path):
    search, other = make_search("search"), make_search("other", seed=1)
    training = make_training(tmp_path)
    save_settings(replace(train_config("digits"), epochs=1), training / "config.yaml")
    for folder in (other, training):
        lines = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(lines.replace('"train_loss": ', '"train_loss": 9'))

    def loss_of_first(folders: list[Path]) -> str:
        return plots(read_runs(folders))[0][0].picture

    alone = loss_of_first([search])
    assert loss_of_first([search, training]) == alone
    assert loss_of_first([search, other]) != alone


def test_naive_time_is_told_where_it_was_measured(make_search, tmp_path):
    folder = make_search()
    assert "Naive time" not in report([folder], tmp_path / "report.html").text
    timed = {"images": [13, 26], "seconds": 0.25, "naive_seconds": 2.0}
    (folder / "naive.json").write_text(json.dumps(timed))
    page = report([folder], tmp_path / "report.html")
    for wanted in (
        "Naive time (estimate)",
        "48 min 0 s",
        "8.0 times as long, by steps of 13 and 26 images",
        "what naive would have taken is an estimate",
    ):
        assert wanted in page.text, wanted


@pytest.mark.parametrize(
    "text", ['{"images": [6]}', '{"images": [6], "seconds": 0, "naive_seconds": 1}', "[1]", "nan"]
)
def test_a_damaged_naive_time_is_named(make_search, tmp_path, text):
    folder = make_search()
    (folder / "naive.json").write_text(text)
    with pytest.raises(UserError, match=r"naive\.json is damaged"):
        report([folder], tmp_path / "report.html")


def test_the_page_is_one_file_without_scripts(make_search, tmp_path):
    folder = make_search()
    page = report([folder, make_search("other")], tmp_path / "report.html")
    assert not set(page.tags) & {"script", "iframe", "object", "embed", "img", "form"}
    links = [value for name, value in page.attributes if name in {"href", "src", "srcset"}]
    assert links == ["data:,"]
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?://", text)
    (policy,) = [v for n, v in page.attributes if n == "content" and "default-src" in v]
    assert policy.startswith("default-src 'none';") and "script" not in policy
    write_report([folder, tmp_path / "other"], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == text


def test_nothing_in_a_run_folder_becomes_markup(make_search, tmp_path):
    harmless = make_search(
        "harmless", primitives=("none", "skip_connect", "mine"), data_dir="elsewhere"
    )
    hostile = make_search(
        "<img src=x onerror=pwned=1>\"'",
        primitives=("none", "skip_connect", PAYLOAD),
        data_dir=PAYLOAD,
    )
    for folder, text in ((harmless, "x"), (hostile, PAYLOAD)):
        own = "mine" if folder == harmless else PAYLOAD
        cell = [[own, 0], ["skip_connect", 1], [own, 2], [own, 0]]
        genotype = {"normal": cell, "normal_concat": [2], "reduce": cell, "reduce_concat": [2]}
        (folder / "genotype.json").write_text(json.dumps(genotype))
        record = [{text: text, "packages": {text: text}, "backend": text, "device": [text]}]
        (folder / "environment.json").write_text(json.dumps(record))
    expected = report([harmless], tmp_path / "harmless.html")
    page = report([hostile], tmp_path / "hostile.html")
    assert page.tags == expected.tags
    assert Counter(n for n, _ in page.attributes) == Counter(n for n, _ in expected.attributes)
    assert not [n for n, _ in page.attributes if n.startswith("on")]
    assert page.text.count("<script>window.pwned=1</script>") > 20


def test_a_lone_surrogate_is_no_fault(make_search, tmp_path):
    folder = make_search()
    (folder / "environment.json").write_text('[{"python": "\\ud800", "backend": null}]')
    assert "python" in report([folder], tmp_path / "report.html").text


@pytest.mark.parametrize(
    ("file", "content", "wanted"),
    [
        ("metrics.jsonl", '{"epoch": 0, "train_loss": "<b>"}\n', "train_loss of epoch 0 is '<b>'"),
        ("metrics.jsonl", f'{{"epoch": 0, "seconds": 1{"0" * 400}}}\n', "wanted a number"),
        ("architecture.jsonl", '{"epoch": 0}\n', "wanted 5 x 8 numbers"),
        ("architecture.jsonl", "[]\n", "damaged"),
        ("environment.json", "[1]", "damaged"),
        ("environment.json", "[" * 100_000, "damaged"),
        ("genotype.json", "{}", "genotype"),
        ("config.yaml", "k: 4", "settings"),
    ],
)
def test_damaged_files_are_named(make_search, file, content, wanted):
    folder = make_search()
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=re.escape(wanted)):
        read_runs([folder])


def test_numbers_that_are_not_finite_leave_a_gap(make_search, tmp_path):
    folder = make_search()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["valid_loss"], lines[2]["valid_loss"] = float("nan"), 1e300
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [epoch for epoch, _ in read_run(folder, "run").series("valid_loss")] == [1, 4]
    assert not re.search(r"\b(nan|inf)\b", report([folder], tmp_path / "r.html").text, re.I)


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_only_begun(make_search, tmp_path, epochs):
    folder = make_search(epochs=epochs or 1)
    if not epochs:
        for name in ("metrics.jsonl", "architecture.jsonl", "genotype.json", "environment.json"):
            (folder / name).unlink()
    page = report([folder], tmp_path / "report.html")
    assert f"{epochs} of 1" in page.text
    assert ("No epoch is done yet" in page.text) == (epochs == 0)
    assert ("--resume" in page.text) == (epochs == 0)
    assert page.tags["circle"] >= (60 if epochs else 0)  # a point where there is no line yet


def test_runs_side_by_side(make_search, tmp_path):
    folders = [make_search("five/seed-10", seed=10), make_search("five/seed-9", epochs=2, seed=9)]
    save_settings(
        replace(train_config("digits"), epochs=1), make_training(tmp_path) / "config.yaml"
    )
    page = report([tmp_path / "five", tmp_path / "training"], tmp_path / "report.html")
    assert "Comparison of 3 runs" in page.text
    names = [run.name for run in read_runs([tmp_path / "five", tmp_path / "training"])]
    assert names == ["seed-9", "seed-10", "training"]
    rows = re.findall(r'<th scope="row">([^<]*)', (tmp_path / "report.html").read_text())
    assert rows[:3] == ["Validation accuracy", "Test accuracy", "Epochs"]
    again = [run.name for run in read_runs([folders[0], make_search("ten/seed-10")])]
    assert again == ["five/seed-10", "ten/seed-10"]
    with pytest.raises(UserError, match="no run in"):
        read_runs([tmp_path / "nowhere"])


def make_training(tmp_path: Path) -> Path:
    folder = tmp_path / "training"
    folder.mkdir()
    line = {"epoch": 0, "train_loss": 1.0, "test_loss": 2.0, "test_accuracy": 0.91, "seconds": 3.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    PUBLISHED["PDARTS"].save(folder / "genotype.json")
    return folder


def test_a_training_has_a_report_too(tmp_path, capsys):
    folder = make_training(tmp_path)
    save_settings(replace(train_config("digits"), epochs=1, layers=2), folder / "config.yaml")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"Written: {folder / 'report.html'}\n"
    page = Elements((folder / "report.html").read_text())
    assert "Training" in page.text and "91.00%" in page.text and "Loss" in page.text
    assert "alpha of every edge" not in page.text
    for args, wanted in (
        ([], "no run to report on"),
        ([str(tmp_path / "none")], "holds no config.yaml"),
        ([str(folder), "-o", str(tmp_path / "no" / "r.html")], "there is no folder"),
    ):
        assert main(["report", *args]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert wanted in sentence


def test_settings_differ_from_the_preset_visibly(make_search, tmp_path):
    folder = make_search()
    write_report([folder], tmp_path / "r.html")
    marked = re.findall(r'class="changed"><dt>([^<]*)', (tmp_path / "r.html").read_text())
    assert marked == ["init channels", "nodes", "epochs", "frozen epochs"]


def test_units():
    assert [duration(s) for s in (0.25, 61, 3600, 90000)] == [
        *("0.2 s", "1 min 1 s", "1 h 0 min", "1 d 1 h")
    ]
    assert [size(n) for n in (1536, 25 * 2**20, 2**31)] == ["1.50 KiB", "25.0 MiB", "2.00 GiB"]


def schemes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", (HERE / "page.css").read_text(), re.DOTALL)
    found = [dict(re.findall(r"--([a-z]+\d*): (#\w{6})", block)) for block in blocks]
    return dict(zip(("light", "dark"), found, strict=True))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_legible(scheme):
    colours = schemes()[scheme]
    for ground in ("page", "card", "ground", "tint", "sep", "dil", "max", "avg", "skip", "other"):
        assert contrast(colours["ink"], colours[ground]) >= 7, ground
    for ground in ("page", "card", "ground", "shade", "tint"):
        assert contrast(colours["soft"], colours[ground]) >= 4.5, ground
    assert contrast(colours["accent"], colours["tint"]) >= 4.5
    for number in range(16):
        assert contrast(colours[f"k{number}"], colours["ground"]) >= 3, number


def test_settings_of_a_training_are_read_as_such(tmp_path):
    folder = make_training(tmp_path)
    save_settings(train_config("cifar10"), folder / "config.yaml")
    assert read_run(folder, "x").config == load_settings(TrainConfig, folder / "config.yaml")
