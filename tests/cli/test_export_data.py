"""`pcdarts export` says which logit is which class, and how images are normalised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from pcdarts_fast.cli import main
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.nn.exported import TrainedOn, export, load_network, read_metadata
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import PUBLISHED

GENOTYPE = PUBLISHED["DARTS_V2"]
PETS = TrainedOn((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ("cats", "\x1b[2Jdögs"), 8)
TOLD = """\
images are scaled to [0, 1], then normalised by mean 0.485 0.456 0.406 and std 0.229 0.224 0.225
classes of the logits: 0 'cats', 1 '\\x1b[2Jdögs'
"""


def weights_in(folder: Path, trained_on: TrainedOn | None, classes: int = 2) -> Path:
    arguments = {"C": 2, "num_classes": classes, "layers": 1, "in_channels": 3, "stem": "cifar"}
    network = DerivedNetwork(genotype=GENOTYPE, **arguments)
    path = folder / "weights.safetensors"
    path.write_bytes(export(network, GENOTYPE, trained_on, **arguments))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "copy.safetensors", "cell.py"])
def test_told_and_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, written = weights_in(tmp_path, PETS), tmp_path / name
    assert main(["export", str(weights), "-o", str(written)]) == 0
    told = capsys.readouterr().out
    assert TOLD in told
    assert ("images [batch, 3, 8, 8]" in told) is (name in ("net.onnx", "net.pt2"))
    fields = json.loads(PETS.to_json())
    if name == "net.onnx":
        import onnx

        metadata = {one.key: one.value for one in onnx.load(written).metadata_props}
        assert {key: json.loads(metadata[key]) for key in fields} == fields
    elif name == "net.pt2":
        files = {"trained_on.json": ""}
        torch.export.load(written, extra_files=files)
        assert json.loads(files["trained_on.json"]) == fields
    elif name == "copy.safetensors":
        assert read_metadata(written)[2] == PETS


@pytest.mark.parametrize(
    ("classes", "end"),
    [
        (20, "17 'kind 17', 18 'kind 18', 19 'kind 19'"),
        (21, "17 'kind 17', 18 'kind 18', ..., 20 'kind 20'"),
        (100, "17 'kind 17', 18 'kind 18', ..., 99 'kind 99'"),
    ],
)
def test_of_many_classes_the_first_and_the_last_are_told(
    classes: int, end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = TrainedOn(PETS.mean, PETS.std, tuple(f"kind {n}" for n in range(classes)))
    weights = weights_in(tmp_path, many, classes=classes)
    assert main(["export", str(weights), "-o", str(tmp_path / "cell.py")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(end)


def test_weights_of_data_that_nobody_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, written = weights_in(tmp_path, None), tmp_path / "cell.py"
    assert main(["export", str(weights), "-o", str(written)]) == 0
    assert capsys.readouterr().out == f"Written: {written}\n"


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    """safetensors itself orders metadata anew each time."""
    weights = weights_in(tmp_path, PETS)
    genotype, arguments, trained_on = read_metadata(weights)
    network = load_network(weights)
    written = {export(network, genotype, trained_on, **arguments) for _ in range(16)}
    assert written == {weights.read_bytes()}


@pytest.mark.parametrize(
    "change",
    [
        *({"mean": [0.5]}, {"std": [0.5, 0.5, "0.5"]}, {"std": [0.5, 0.5, 1e999]}),
        *({"classes": ["cats"]}, {"classes": [1, 2]}, {"classes": 2}, {"size": []}),
        *({"image_size": 0}, {"image_size": 8.0}, {"image_size": [8]}),
    ],
)
def test_metadata_that_does_not_fit(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = weights_in(tmp_path, PETS)
    genotype, arguments, _ = read_metadata(weights)
    metadata = {
        "genotype": genotype.to_json(),
        "network": json.dumps(arguments),
        "trained_on": json.dumps(json.loads(PETS.to_json()) | change),
    }
    weights.write_bytes(save(load_file(weights), metadata))
    assert main(["export", str(weights), "-o", str(tmp_path / "cell.py")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "wanted mean, std, classes and image_size" in sentence
    assert not (tmp_path / "cell.py").exists()


def test_a_search_of_an_image_folder_does_not_know_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    GENOTYPE.save(tmp_path / "genotype.json")
    (tmp_path / "architecture.jsonl").write_text("")
    for preset, told in (("imagefolder", True), ("cifar10", False)):
        save_settings(SearchConfig(preset=preset), tmp_path / "config.yaml")
        assert main(["export", str(tmp_path), "-o", str(tmp_path / "cell.py")]) == 0
        assert ("Network(num_classes=...)" in capsys.readouterr().out) is told
