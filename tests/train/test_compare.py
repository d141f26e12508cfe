"""Comparisons: who takes part, under which name, and how results are summed up."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.count import count
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.run.folder import RunFolder
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import PUBLISHED, Genotype, random_genotype
from pcdarts_fast.train.compare import (
    Contestant,
    contestants,
    is_finished,
    results,
    save_comparison,
    training_folder,
)
from pcdarts_fast.train.loop import train
from pcdarts_fast.train.presets import train_config

CONFIG = replace(
    train_config("digits"),
    init_channels=2,
    layers=1,
    epochs=1,
    batch_size=512,
    auxiliary_weight=0.0,
    device="cpu",
)
CELL = (("skip_connect", 0), ("skip_connect", 1))
TINY = Genotype(CELL, (2,), CELL, (2,))


def test_names_are_unique_and_say_something(tmp_path: Path) -> None:
    for folder in ("a/search-digits", "b/search-digits", "a/v1.5"):
        (tmp_path / folder).mkdir(parents=True)
        TINY.save(tmp_path / folder / "genotype.json")
    plain = [tmp_path / name for name in ("mine.json", "...json", "compare.json.json")]
    for path in plain:
        TINY.save(path)
    files = [
        tmp_path / "a/search-digits/genotype.json",
        tmp_path / "b/search-digits",
        tmp_path / "a/v1.5",
        *plain,
    ]
    field = contestants([*map(str, files), "DARTS_V2", "random:2"], seed=7, nodes=4)
    assert [one.name for one in field] == [
        *("search-digits", "search-digits-2", "v1-5", "mine", "genotype", "compare-json"),
        *("DARTS_V2", "random-7", "random-8"),
    ]
    assert [one.drawn for one in field] == [False] * 7 + [True] * 2
    # A fair field: random cells have as many nodes as the first genotype.
    assert field[-1].genotype == random_genotype(8, nodes=1)
    assert field[6].genotype == PUBLISHED["DARTS_V2"]


def test_random_genotypes_alone_have_the_nodes_of_the_preset() -> None:
    field = contestants(["random:1", "random:2"], seed=0, nodes=3)
    assert [one.genotype for one in field] == [random_genotype(n, nodes=3) for n in range(3)]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], "nothing to compare"),
        (["random:0"], "random:N"),
        (["DARTS_V3"], "did you mean"),
        (["DARTS_V2", "random:1", "DARTS_V2"], "'DARTS_V2' is named twice"),
    ],
)
def test_bad_fields(texts: list[str], wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        contestants(texts, seed=0, nodes=4)


def test_results_rank_the_finished_trainings(tmp_path: Path) -> None:
    seeds = range(2)
    field = [Contestant(name, TINY, drawn=name in "ac") for name in "abcd"]
    accuracies = {"a": (0.5, 0.7), "b": (0.9, 0.8), "c": (0.9, 0.8)}
    list(train(CONFIG, TINY, training_folder(tmp_path, field[0], 0)))
    assert is_finished(training_folder(tmp_path, field[0], 0), CONFIG, TINY)
    whole = RunFolder(training_folder(tmp_path, field[0], 0)).weights.read_bytes()
    for one in field[:3]:
        for seed in seeds:
            folder = training_folder(tmp_path, one, seed)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "weights.safetensors").write_bytes(whole)
            line = {"epoch": 0, "test_accuracy": accuracies[one.name][seed]}
            (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    reached = results(tmp_path, field, seeds, image_size=8)
    assert [(r.contestant.name, r.rank) for r in reached] == [("b", 1), ("c", 1), ("a", 3)]
    assert reached[0].mean == pytest.approx(0.85)
    assert reached[2].deviation == pytest.approx(statistics.stdev((0.5, 0.7)))
    cost = count(DerivedNetwork(2, 10, 1, TINY, in_channels=1).eval(), (1, 8, 8))
    assert (reached[0].parameters, reached[0].multiply_adds) == (
        *(cost.parameters, cost.multiply_adds),
    )

    save_comparison(tmp_path / "compare.json", CONFIG, seeds, reached, trainings=8)
    saved = json.loads((tmp_path / "compare.json").read_text())
    assert (saved["trainings"], saved["trainings_done"]) == (8, 6)
    assert saved["genotypes"][0]["test_accuracy"] == {"0": 0.9, "1": 0.8}
    assert Genotype.from_json(json.dumps(saved["genotypes"][2]["genotype"])) == TINY
    assert saved["random"] == {
        "genotypes": 2,
        "mean": pytest.approx((0.85 + 0.6) / 2),
        "deviation": pytest.approx(statistics.stdev((0.85, 0.6))),
        "best": reached[1].mean,
    }
    assert saved["budget"]["epochs"] == 1
    assert not {"seed", "data_dir", "device"} & set(saved["budget"])
    assert results(tmp_path, field, range(1), image_size=8)[0].deviation is None


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not is_finished(folder, CONFIG, TINY)
    folder.mkdir()
    save_settings(CONFIG, folder / "config.yaml")
    assert not is_finished(folder, CONFIG, TINY)
    (folder / "weights.safetensors").touch()  # of a run that was then cut back to another epoch
    assert not is_finished(folder, CONFIG, TINY)
    with pytest.raises(UserError, match="--epochs is 9"):
        is_finished(folder, replace(CONFIG, epochs=9), TINY)
    PUBLISHED["PDARTS"].save(folder / "genotype.json")
    with pytest.raises(UserError, match="another genotype"):
        is_finished(folder, CONFIG, TINY)
