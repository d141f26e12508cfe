"""Whole searches: what they find, what they say, and what they leave behind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import count

import pytest
import torch

from pcdarts_fast import Genotype, SearchNetwork
from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.processes import Processes
from pcdarts_fast.search import (
    EpochDone,
    Finished,
    Notice,
    Progress,
    Started,
    loop,
    search,
)
from pcdarts_fast.search import epoch as epochs
from pcdarts_fast.search.monitors import entropies
from pcdarts_fast.search.schedule import weight_learning_rate
from pcdarts_fast.testing.outcome import of, outcome


def run(config, folder, *, resume=False) -> list:
    return list(search(config, folder, resume=resume))


def test_search_on_digits_learns_them_and_its_architecture(tmp_path):
    config = replace(search_config("digits"), epochs=8, frozen_epochs=2, nodes=1, device="cpu")
    events = run(config, tmp_path / "run")
    accuracies = [event.metrics["valid_accuracy"] for event in of(EpochDone, events)]
    assert accuracies[-1] >= 0.9
    (finished,) = of(Finished, events)
    assert finished is events[-1]
    assert Genotype.load(tmp_path / "run" / "genotype.json") == finished.genotype
    first, last = (json.loads(line) for line in _ends(tmp_path / "run" / "architecture.jsonl"))
    spread = [torch.tensor(alpha["alphas_normal"]).std() for alpha in (first, last)]
    assert spread[1] > 10 * spread[0]


def _ends(path):
    lines = path.read_text().splitlines()
    return lines[0], lines[-1]


def test_metrics_have_a_line_an_epoch(tiny, tmp_path):
    events = run(tiny, tmp_path)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert lines == [event.metrics for event in of(EpochDone, events)]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert set(lines[0]) == {
        "epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy",
        "learning_rate", "arch_learning_rate", "images_per_second", "seconds", "skips",
        "alpha_entropy_normal", "beta_entropy_normal",
        "alpha_entropy_reduce", "beta_entropy_reduce", "peak_memory_mib",
    }  # fmt: skip
    assert [line["arch_learning_rate"] for line in lines] == [0, 6e-3, 6e-3, 6e-3, 6e-3]
    rates = [weight_learning_rate(tiny, epoch) for epoch in range(5)]
    assert [line["learning_rate"] for line in lines] == rates
    (started,), steps = of(Started, events), of(Progress, events)
    assert len(steps) == 5 * started.steps == 30
    for line, last in zip(lines, steps[5::6], strict=True):
        assert (line["train_loss"], line["train_accuracy"]) == (last.loss, last.accuracy)


def test_frozen_epochs_leave_alpha_and_beta_where_they_are(tiny, tmp_path):
    run(replace(tiny, frozen_epochs=2, epochs=3), tmp_path)
    lines = read_lines(tmp_path / "architecture.jsonl")
    first, second, third = ({n: v for n, v in line.items() if n != "epoch"} for line in lines)
    assert first == second != third


def test_a_search_that_ends_in_a_random_genotype_says_so(tiny, tmp_path):
    (notice,) = of(Notice, run(replace(tiny, epochs=1), tmp_path / "short"))
    assert "--frozen-epochs 1 covers all of --epochs 1" in notice.text
    (notice,) = of(Notice, run(replace(tiny, layers=2, epochs=2), tmp_path / "shallow"))
    assert "with --layers 2 every cell is a reduction cell" in notice.text


def test_a_search_that_learns_little_or_is_slow_says_so(tiny, tmp_path):
    few = replace(tiny, epochs=2, train_fraction=0.02, valid_fraction=0.02)
    (notice,) = of(Notice, run(few, tmp_path / "few"))
    assert "one step of 30 images, fewer than --batch-size 48" in notice.text
    fp16 = replace(tiny, epochs=2, precision="fp16")
    (notice,) = of(Notice, run(fp16, tmp_path / "fp16"))
    assert "no fp16: the search runs on the reference backend" in notice.text
    assert not of(Notice, run(replace(fp16, backend="reference"), tmp_path / "asked for"))


def test_same_seed_same_search_other_seed_another(tiny, tmp_path):
    config = replace(tiny, epochs=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(replace(config, seed=seed), tmp_path / name)
    a, b, c = (outcome(tmp_path / name) for name in "abc")
    assert a == b
    assert a[0] != c[0] and a[1] != c[1]


def test_a_part_too_small_for_a_step_of_all_processes_is_named(tiny, tmp_path, monkeypatch):
    two, digits = Processes(0, 2), load("digits").train
    enough, too_few = (digits.subset(torch.arange(count)) for count in (4, 3))
    loop._check_parts(tiny, two, enough, enough)
    with pytest.raises(UserError, match=r"--valid-fraction leaves 3 images, .* of 2 processes"):
        loop._check_parts(tiny, two, enough, too_few)
    monkeypatch.setattr(loop, "steps", lambda *_: 0)
    with pytest.raises(UserError, match=r"--train-fraction leaves .* images, too few for one step"):
        run(tiny, tmp_path)


def test_loss_that_is_not_a_number_stops_in_one_sentence(tiny, tmp_path):
    with pytest.raises(UserError, match=r"loss is no longer finite \(epoch 0\)"):
        run(replace(tiny, learning_rate=1e30, grad_clip=1e30), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_loss_that_stops_being_a_number_leaves_the_last_good_checkpoint(
    tiny, tmp_path, monkeypatch
):
    rates = [0.1, 0.1, 1e30, 1e30, 1e30]
    monkeypatch.setattr(
        "pcdarts_fast.search.epoch.weight_learning_rate", lambda config, epoch: rates[epoch]
    )
    with pytest.raises(UserError, match=r"no longer finite \(epoch 2\)"):
        run(replace(tiny, grad_clip=1e30), tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["epoch"] == 2
    assert all(value.isfinite().all() for value in state["network"].values())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"k": 3}, "wanted a k >= 1 that divides C"),
        ({"primitives": ("none", "sep_conv_9x9")}, "unknown primitive 'sep_conv_9x9'"),
        ({"primitives": ("none",)}, "wanted one other than none"),
        ({"primitives": ("none",), "max_skips": 1}, "wanted one other than none"),
        ({"backend": "cuda"}, "backend 'cuda' cannot run"),
        ({"image_size": 7}, "digits images are 8 pixels wide, not 7"),
        ({"train_fraction": 0.001}, "class 0 has too few images"),
    ],
)
def test_settings_that_no_search_can_run_with(tiny, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        run(replace(tiny, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()  # free for the corrected command


def test_search_ends_where_skips_dominate_with_the_genotype_of_the_epoch_before(
    tiny, tmp_path, monkeypatch
):
    """Alpha favours convolutions in epoch 1, the first in which it learns, and skips in epoch 2."""
    step = epochs.architecture_step
    calls = count()

    def biased(network, *args, **settings):
        step(network, *args, **settings)
        convolution, skip = 2, 1
        favoured = convolution if next(calls) < 6 else skip
        network.alphas_normal.data = 9 * torch.eye(3)[favoured].expand(2, 3).clone()

    monkeypatch.setattr(epochs, "architecture_step", biased)
    config = replace(tiny, stop_at_skips=2)
    events = run(config, tmp_path)
    assert [line["skips"] for line in read_lines(tmp_path / "metrics.jsonl")][1:] == [0, 2]
    (notice,) = of(Notice, events)
    assert "the normal cell has 2 skip connections" in notice.text
    assert {primitive for primitive, _ in events[-1].genotype.normal} == {"sep_conv_3x3"}
    again = run(config, tmp_path, resume=True)
    assert of(EpochDone, again) == [] and again[-1] == events[-1]


def test_cap_on_skips_holds_for_the_genotype_of_a_search(tiny, tmp_path):
    events = run(replace(tiny, epochs=2, nodes=3, max_skips=0), tmp_path)
    assert all(primitive != "skip_connect" for primitive, _ in events[-1].genotype.normal)


def test_entropies_are_those_of_the_softmax():
    network = SearchNetwork(4, 2, 1, k=2, nodes=2)
    for parameter in network.arch_parameters():
        parameter.data.zero_()
    values = entropies(network)
    assert values["alpha_entropy_normal"] == pytest.approx(math.log(8))
    assert values["beta_entropy_reduce"] == pytest.approx((math.log(2) + math.log(3)) / 2)
    network.alphas_reduce.data[:, 3] = 100
    network.alphas_normal.data[0, 3] = 100  # of five edges
    values = entropies(network)
    assert values["alpha_entropy_reduce"] == pytest.approx(0, abs=1e-6)
    assert values["alpha_entropy_normal"] == pytest.approx(0.8 * math.log(8))


def test_search_in_bf16_learns_as_in_fp32(tmp_path):
    config = replace(
        search_config("digits"), epochs=4, frozen_epochs=1, nodes=1, layers=3, device="cpu"
    )
    *_, done, _ = run(replace(config, precision="bf16"), tmp_path / "bf16")
    *_, exact, _ = run(config, tmp_path / "fp32")
    assert abs(done.metrics["valid_accuracy"] - exact.metrics["valid_accuracy"]) < 0.1
    assert done.metrics["valid_loss"] != exact.metrics["valid_loss"]
    state = torch.load(tmp_path / "bf16" / "checkpoint.pt", weights_only=True)
    assert {value.dtype for value in state["network"].values()} == {torch.float32, torch.int64}


def test_search_in_fp16_scales_its_loss_and_resumes_with_the_scale(tiny, tmp_path):
    config = replace(tiny, epochs=2, precision="fp16")
    started, *_ = run(config, tmp_path / "whole")
    assert started.backend == "reference"
    asked = iter([False] * 7 + [True])
    list(search(config, tmp_path / "run", stop=lambda: next(asked)))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["scaler"]["scale"] > 1 and state["arch_scaler"]["scale"] > 1
    run(config, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_fp16_is_refused_by_an_engine_that_does_not_have_it(tiny, tmp_path):
    with pytest.raises(UserError, match="--backend cpu cannot run --precision fp16; take"):
        run(replace(tiny, precision="fp16", backend="cpu"), tmp_path)


def test_a_search_that_ends_in_its_first_epoch_keeps_that_epochs_genotype(tiny, tmp_path):
    config = replace(tiny, frozen_epochs=0, primitives=("none", "skip_connect"), stop_at_skips=2)
    (notice,) = of(Notice, run(config, tmp_path))
    assert notice.text.endswith("the genotype is that of this first epoch")
    assert Genotype.load(tmp_path / "genotype.json").normal[0][0] == "skip_connect"
