"""The commands to go on with after a run: they can be typed, and do what the run did."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from pcdarts_fast.report.commands import changed_options, commands
from pcdarts_fast.report.read import read_run
from pcdarts_fast.run.presets import search_config


def test_commands_can_be_typed(make_search, tmp_path):
    folder = make_search("it's; rm -rf $HOME", epochs=2, seed=3, edge_normalization=False)
    run = read_run(folder, "name")
    words = [shlex.split(line) for _, line in commands(run)]
    assert run.finished
    assert words[0] == [
        *("pcdarts", "train", "--genotype", str(folder / "genotype.json"), "--preset", "digits")
    ]
    assert [w[1] for w in words] == ["train", "compare", "count", "search"]
    assert words[-1][4:] == [
        *("--seed", "3", "--init-channels", "4", "--nodes", "2", "--no-edge-normalization"),
        *("--epochs", "2", "--frozen-epochs", "1"),
    ]


def test_commands_take_the_images_of_the_run(make_search):
    run = read_run(make_search(), "name")
    config = replace(
        search_config("imagefolder"), data_dir=Path("my pictures"), image_size=64, stem="cifar"
    )
    done = replace(run, config=config, metrics=run.metrics * config.epochs)
    lines = [line for _, line in commands(done)]
    same = "--preset imagefolder --data-dir 'my pictures' --image-size 64 --stem cifar"
    for line in lines:
        name = shlex.split(line)[1]
        assert line.endswith(same) == (name != "count"), line
    (count,) = (line for line in lines if " count " in line)
    assert count.endswith("--preset imagefolder --image-size 64")


def test_whatever_trains_leaves_the_damaged_images_of_the_run_out(make_search):
    run = read_run(make_search(), "name")
    config = replace(search_config("imagefolder"), damaged_images="skip")
    lines = [line for _, line in commands(replace(run, config=config))]
    skipping = [shlex.split(line)[1] for line in lines if "--damaged-images skip" in line]
    assert skipping == ["train", "compare", "search"]


def test_a_search_that_skips_have_ended_is_finished(make_search):
    folder = make_search()
    run = read_run(folder, "name")
    lines = [{**line, "skips": 4, "arch_learning_rate": 0.1} for line in run.metrics]
    for stop_at, finished in ((4, True), (5, False), (None, False)):
        config = replace(run.config, stop_at_skips=stop_at, epochs=len(lines) + 1)
        ended = replace(run, config=config, metrics=lines)
        assert ended.finished is finished
        assert ("--resume" in commands(ended)[0][1]) is not finished


def test_options_give_the_settings_again(tmp_path, monkeypatch):
    """Through the parser of the command itself."""
    from pcdarts_fast.cli import search

    config = replace(
        search_config("cifar10", "as-released"),
        primitives=("none", "skip_connect"),
        arch_grad_clip=0.1 + 0.2,
        max_skips=2,
        hessian=True,
        workers=0,
    )
    parsed = []
    monkeypatch.setattr(search, "_search", lambda _, config, *__, **___: parsed.append(config))
    monkeypatch.setattr(search, "rank", lambda: 1)
    search.main([*changed_options(config), "--output-dir", str(tmp_path)])
    assert parsed == [config]


def test_a_run_of_several_processes_goes_on_in_as_many(make_search):
    run = read_run(make_search(), "name")
    several = replace(run, metrics=run.metrics[:2], environments=[{"processes": 4}])
    lines = [line for _, line in commands(several)]
    launched = [line for line in lines if line.startswith("torchrun --nproc-per-node 4 -m ")]
    assert launched == [lines[0], lines[-1]]
    assert " pcdarts_fast search --resume " in lines[0]
    alone = replace(several, environments=[{"processes": 4}, {"processes": 1}])
    assert all(line.startswith("pcdarts ") for _, line in commands(alone))
