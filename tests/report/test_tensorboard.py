"""TensorBoard's files hold what the run folder holds, once, also after an interruption."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from pcdarts_fast.cli import main
from pcdarts_fast.report.architecture import current_edges, softmax
from pcdarts_fast.report.read import read_run
from pcdarts_fast.report.tensorboard import logged
from pcdarts_fast.run.events import EpochDone

TINY = [
    *("--device", "cpu", "--init-channels", "4", "--k", "2", "--layers", "3", "--nodes", "1"),
    *("--primitives", "none", "skip_connect", "sep_conv_3x3", "--frozen-epochs", "1"),
    *("--batch-size", "48", "--train-fraction", "0.2", "--valid-fraction", "0.2"),
]
needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the package tensorboard"
)


def only_once(points: Iterable[tuple[int, float]]) -> dict[int, float]:
    listed = list(points)
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def written(folder) -> SimpleNamespace:
    """Scalars as {tag: {step: value}}, and tags of images and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    scalars = {
        tag: only_once((event.step, event.value) for event in events.Scalars(tag))
        for tag in events.Tags()["scalars"]
    }
    return SimpleNamespace(scalars=scalars, images=events.Images, tensors=events.Tags()["tensors"])


@needs_tensorboard
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_search(tmp_path):
    folder = tmp_path / "run"
    where = ["--output-dir", str(folder), "--tensorboard"]
    assert main(["search", *TINY, "--epochs", "2", *where]) == 0
    found, run = written(folder), read_run(folder, "")
    for line in run.metrics:
        step = line["epoch"] + 1
        for tag, name in (
            ("loss/valid_loss", "valid_loss"),
            ("accuracy/train_accuracy", "train_accuracy"),
            ("entropy/alpha_entropy_normal", "alpha_entropy_normal"),
            ("run/images_per_second", "images_per_second"),
        ):
            assert found.scalars[tag][step] == pytest.approx(line[name], rel=1e-6)
    for kind in ("normal", "reduce"):
        for edge in current_edges(run, run.config, kind):
            name = f"{edge.source}_to_{edge.target}"
            for primitive, share in edge.shares.items():
                shares = found.scalars[f"alpha_{kind}/{name}/{primitive}"]
                assert set(shares) == {1, 2} and shares[2] == pytest.approx(share, rel=1e-6)
        into = [found.scalars[f"beta_{kind}/c_k-{n}_to_0"][2] for n in (2, 1)]
        assert into == pytest.approx(softmax(run.betas[kind][-1]), rel=1e-6)
    picture = found.images("cells")[0]
    assert picture.encoded_image_string.startswith(b"\x89PNG") and picture.width > 300
    assert "genotype/text_summary" in found.tensors

    # Gone on with after the first epoch, the second is written anew and counts once.
    started = SimpleNamespace(folder=folder, epochs_done=1)
    again = {**run.metrics[1], "valid_loss": 7.0}
    assert len(list(logged(iter([started, EpochDone(again)])))) == 2
    losses = written(folder).scalars["loss/valid_loss"]
    assert losses == {1: pytest.approx(run.metrics[0]["valid_loss"], rel=1e-6), 2: 7.0}


@needs_tensorboard
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training(tmp_path):
    folder = tmp_path / "run"
    assert main(
        ["train", "--genotype", "DARTS_V2", "--epochs", "1", "--init-channels", "2", "--layers",
         "1", "--auxiliary-weight", "0", "--batch-size", "512", "--device", "cpu",
         "--output-dir", str(folder), "--tensorboard"]
    ) == 0  # fmt: skip
    found = written(folder)
    assert set(found.scalars["accuracy/test_accuracy"]) == {1}
    assert not [tag for tag in found.scalars if tag.startswith("alpha")]
    assert len(found.images("cells")) == 1


def test_without_the_package_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.chdir(tmp_path)
    for command in (["search", *TINY], ["train", "--genotype", "DARTS_V2"]):
        assert main([*command, "--tensorboard"]) == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        assert "pip install tensorboard" in sentence
    assert list(tmp_path.iterdir()) == []
