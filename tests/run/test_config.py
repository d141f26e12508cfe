"""Settings: what the presets say, what is refused, and that YAML gives the same back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import get_args, get_type_hints

import pytest
import yaml

from pcdarts_fast.errors import UserError
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import AS_RELEASED, PRESETS, search_config
from pcdarts_fast.run.ranges import option
from pcdarts_fast.run.settings import load_settings, save_settings
from pcdarts_fast.train.config import TrainConfig

EVERY_PRESET = [*((name, "paper") for name in PRESETS), *((n, "as-released") for n in AS_RELEASED)]


@pytest.mark.parametrize(("preset", "variant"), EVERY_PRESET)
def test_settings_survive_a_round_trip_through_plain_yaml(tmp_path, preset, variant):
    config = search_config(preset, variant)
    assert (config.preset, config.variant) == (preset, variant)
    path = tmp_path / "config.yaml"
    save_settings(config, path)
    assert load_settings(SearchConfig, path) == config
    assert "!!" not in path.read_text()


def test_cifar10_is_the_setting_of_the_paper():
    config = search_config("cifar10")
    paper = {
        "init_channels": 16, "layers": 8, "nodes": 4, "k": 4, "batch_size": 256, "epochs": 50,
        "frozen_epochs": 15, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 3e-4,
        "grad_clip": 5.0, "arch_learning_rate": 6e-4, "arch_beta1": 0.5, "arch_beta2": 0.999,
        "arch_weight_decay": 1e-3, "train_fraction": 0.5, "valid_fraction": 0.5,
        "edge_normalization": True, "unrolled": False, "sampling": "shuffle",
    }  # fmt: skip
    assert {name: asdict(config)[name] for name in paper} == paper


def test_imagenet_is_the_setting_of_the_paper():
    config = search_config("imagenet")
    paper = {
        "init_channels": 16, "layers": 8, "k": 2, "batch_size": 1024, "epochs": 50,
        "frozen_epochs": 35, "learning_rate": 0.5, "learning_rate_warmup_epochs": 5,
        "arch_learning_rate": 6e-3, "arch_grad_clip": 5.0, "train_fraction": 0.10,
        "valid_fraction": 0.025, "stem": "imagenet", "image_size": 224,
    }  # fmt: skip
    assert {name: asdict(config)[name] for name in paper} == paper


def test_released_code_differs_by_its_early_scheduler():
    released = search_config("cifar10", "as-released")
    assert released == replace(
        search_config("cifar10"), variant="as-released", learning_rate_shift=1
    )


@pytest.mark.parametrize(
    ("preset", "variant", "sentence"),
    [
        ("mnist", "paper", "unknown preset 'mnist'; wanted one of digits, fashion-mnist"),
        ("digits", "as-released", "preset digits has no variant 'as-released'"),
        ("cifar10", "new", "preset cifar10 has no variant 'new'; wanted paper or as-released"),
    ],
)
def test_unknown_preset_or_variant(preset, variant, sentence):
    with pytest.raises(UserError, match=sentence):
        search_config(preset, variant)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "--epochs is 0, wanted 1 or more"),
        ({"seed": -1}, "--seed is -1, wanted 0 or more"),
        ({"seed": 2**64}, "--seed is 18446744073709551616, wanted 0 or more and below 2"),
        ({"seed": 2**63}, "--seed is 9223372036854775808, wanted 0 or more and below 2"),
        ({"image_size": -32}, "--image-size is -32, wanted 1 or more"),
        ({"arch_grad_clip": -1.0}, "--arch-grad-clip is -1.0, wanted more than 0"),
        ({"max_skips": -1}, "--max-skips is -1, wanted 0 or more"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan, wanted more than 0"),
        ({"momentum": 1.0}, "--momentum is 1.0, wanted"),
        ({"train_fraction": 0.6}, "--train-fraction 0.6 and --valid-fraction 0.5 .* disjoint"),
        ({"unrolled": True, "precision": "bf16"}, "--precision is bf16, but .* --unrolled needs"),
        ({"precision": "bfloat16"}, "--precision: got 'bfloat16', wanted one of fp32, bf16, fp16"),
    ],
)
def test_settings_that_cannot_be(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        SearchConfig(**changes)


def test_settings_of_a_training_that_cannot_be():
    with pytest.raises(UserError, match="--schedule: got 'cosin', wanted one of cosine, linear"):
        TrainConfig(schedule="cosin")


def test_primitives_of_a_list_are_those_of_a_tuple():
    assert SearchConfig(primitives=["none"]) == SearchConfig(primitives=("none",))


NUMBERS = [
    (settings, name)
    for settings in (SearchConfig, TrainConfig)
    for name, kind in get_type_hints(settings).items()
    if {int, float} & {kind, *get_args(kind)}
]


@pytest.mark.parametrize(("settings", "name"), NUMBERS)
def test_every_number_has_a_range(settings, name):
    with pytest.raises(UserError, match=f"{option(name)} (is )?-1"):
        settings(**{name: -1})


def test_skips_end_no_search_while_the_architecture_is_frozen():
    config = SearchConfig(stop_at_skips=2)
    learnt = {"skips": 2, "arch_learning_rate": 6e-3}
    assert config.ends_after(learnt)
    assert not config.ends_after(learnt | {"skips": 1})
    assert not config.ends_after(learnt | {"arch_learning_rate": 0.0})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v | {"epoch": 3, 4: 5}, "missing or unknown 4, epoch"),
        (lambda v: {n: v[n] for n in v if n != "seed"}, "missing or unknown seed"),
        (lambda v: v | {"epochs": "many"}, "epochs is 'many', wanted"),
        (lambda v: v | {"epochs": True}, "epochs is True, wanted int"),
        (lambda v: v | {"stem": "tall"}, "stem is 'tall', wanted"),
        (lambda v: v | {"primitives": [["none"]]}, r"primitives is \['none'\], wanted str"),
        (lambda v: v | {"primitives": [5]}, "primitives is 5, wanted str"),
        (lambda v: [], "are damaged: wanted a line for each"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, change, sentence):
    path = tmp_path / "config.yaml"
    save_settings(SearchConfig(), path)
    path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))
    with pytest.raises(UserError, match=sentence):
        load_settings(SearchConfig, path)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("2024-13-01", "cannot be read: month must be"),
        ("!!int abc", "cannot be read: invalid literal"),
        ("!!int ''", "cannot be read: string index"),
        ("!!bool abc", "cannot be read: 'abc'"),
        ("9" * 5_000, "cannot be read: Exceeds the limit"),
        ("0x" + "f" * 5_000, "seed is too large"),
        ("!!timestamp abc", "cannot be read: "),
        ("[" * 100_000, "cannot be read: "),
    ],
)
def test_values_that_no_setting_has(tmp_path, value, wanted):
    path = tmp_path / "config.yaml"
    save_settings(SearchConfig(), path)
    path.write_text(path.read_text().replace("seed: 0", f"seed: {value}"))
    with pytest.raises(UserError, match=rf"config\.yaml:? {wanted}"):
        load_settings(SearchConfig, tmp_path / "config.yaml")


def test_a_whole_number_may_stand_for_a_fraction(tmp_path):
    path = tmp_path / "config.yaml"
    save_settings(SearchConfig(), path)
    path.write_text(path.read_text().replace("momentum: 0.9", "momentum: 0"))
    momentum = load_settings(SearchConfig, path).momentum
    assert momentum == 0 and type(momentum) is float


def test_settings_never_build_python_objects(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UserError, match="cannot be read"):
        load_settings(SearchConfig, path)
