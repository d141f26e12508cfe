"""`pcdarts export`: files that other programs load, and that compute what was trained."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pcdarts_fast.cli import main
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.nn.exported import TrainedOn, export, load_network
from pcdarts_fast.nn.source_code import python_code
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import PRIMITIVES, PUBLISHED, Genotype
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.presets import train_config

ARGUMENTS = {"C": 4, "num_classes": 10, "layers": 3, "in_channels": 1, "stem": "cifar"}


def network_of(genotype: Genotype, **arguments: Any) -> DerivedNetwork:
    """Running statistics and affine parameters that a mistake would show in."""
    torch.manual_seed(0)
    network = DerivedNetwork(genotype=genotype, **{**ARGUMENTS, **arguments})
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and ("bn" in name or value.dim() == 1):
                value.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training, as far as export reads it."""
    folder = tmp_path_factory.mktemp("export") / "run"
    folder.mkdir()
    genotype = PUBLISHED["PC_DARTS_cifar"]
    (folder / "weights.safetensors").write_bytes(
        export(network_of(genotype), genotype, TrainedOn((0.3,), (0.4,), (), 8), **ARGUMENTS)
    )
    genotype.save(folder / "genotype.json")
    save_settings(TrainConfig(preset="digits", init_channels=4, layers=3), folder / "config.yaml")
    return folder


def exported(source: Path | str, name: str, tmp_path: Path, *options: str) -> Path:
    assert main(["export", str(source), "-o", str(tmp_path / name), *options]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    return tmp_path / name


def load_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 1, 8, 8])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", ["batch", 10])]
    return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])


def load_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("name", "load"), [("net.onnx", load_onnx), ("net.pt2", load_pt2)])
def test_other_programs_compute_the_same_logits(
    name: str,
    load: Callable[[Path], Callable[[Tensor], Tensor]],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = exported(run, name, tmp_path)
    text = capsys.readouterr().out
    assert f"Written: {path}" in text and "largest difference" in text
    content = path.read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content  # nothing of this machine
    compute, network = load(path), load_network(run / "weights.safetensors")
    with torch.no_grad():
        for batch in (1, 2, 7):
            x = torch.randn(batch, 1, 8, 8)
            torch.testing.assert_close(compute(x), network(x)[0], rtol=1e-5, atol=1e-5)


def test_an_export_that_computes_something_else_is_not_written(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = network_of(PUBLISHED["PC_DARTS_cifar"], C=8)

    class Loaded:
        def module(self) -> Callable[[Tensor], Tensor]:
            return lambda x: other(x)[0]

    monkeypatch.setattr(torch.export, "load", lambda _file: Loaded())
    assert main(["export", str(run), "-o", str(tmp_path / "net.pt2")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "nothing was written" in sentence
    assert list(tmp_path.iterdir()) == []


def test_weights_go_round(run: Path, tmp_path: Path) -> None:
    path = exported(run / "weights.safetensors", "copy.safetensors", tmp_path)
    wanted, got = load_file(run / "weights.safetensors"), load_file(path)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    x = torch.randn(2, 1, 8, 8)
    first, second = load_network(path), load_network(run / "weights.safetensors")
    assert not first.training and torch.equal(first(x)[0], second(x)[0])


def module_of(text: str) -> dict[str, Any]:
    """The names that `text` defines; it may import torch alone."""
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])
    assert roots == {"__future__", "torch"}
    names: dict[str, Any] = {"__name__": "cell"}
    exec(compile(text, "cell.py", "exec"), names)
    return names


def assert_same_bits(genotype: Genotype, **arguments: Any) -> None:
    values = {**ARGUMENTS, **arguments}
    network = network_of(genotype, **arguments)
    twin = module_of(python_code(genotype, values))["Network"]()
    assert list(twin.state_dict()) == list(network.state_dict())
    twin.load_state_dict(network.state_dict())
    for training in (False, True):
        gradients = []
        for module in (network.train(training), twin.train(training)):
            torch.manual_seed(1)
            x = torch.randn(4, values["in_channels"], 16, 18, requires_grad=True)
            logits = module(x)
            logits = logits[0] if isinstance(logits, tuple) else logits
            logits.square().sum().backward()
            gradients.append((logits, x.grad))
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    for name, value in network.state_dict().items():  # running statistics too
        assert torch.equal(value, twin.state_dict()[name]), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_code_of_a_published_genotype_gives_the_same_bits(name: str) -> None:
    assert_same_bits(PUBLISHED[name])


def test_code_of_every_primitive_and_both_stems_gives_the_same_bits() -> None:
    all_of_them = tuple((primitive, n // 2) for n, primitive in enumerate(PRIMITIVES))
    genotype = Genotype(all_of_them, (0, 2, 5), all_of_them, (3, 4))
    for stem in ("cifar", "imagenet"):
        assert_same_bits(genotype, stem=stem, in_channels=3, C=3, layers=5, num_classes=7)


def folder_of_a_search(parent: Path, genotype: Genotype, config: SearchConfig) -> Path:
    """As far as export reads it."""
    folder = parent / "search"
    folder.mkdir()
    genotype.save(folder / "genotype.json")
    (folder / "architecture.jsonl").write_text("")
    save_settings(config, folder / "config.yaml")
    return folder


def test_code_of_a_run_of_a_search_and_of_a_published_name(run: Path, tmp_path: Path) -> None:
    genotype = PUBLISHED["DARTS_V2"]
    search = folder_of_a_search(tmp_path, genotype, SearchConfig(preset="digits"))
    unfinished = tmp_path / "train"
    unfinished.mkdir()
    genotype.save(unfinished / "genotype.json")
    save_settings(TrainConfig(preset="digits", init_channels=6), unfinished / "config.yaml")
    for number, (source, C, channels) in enumerate(
        ((run, 4, 1), (search, 16, 1), (unfinished, 6, 1), ("PC_DARTS_image", 36, 3))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        module = module_of(exported(source, "cell.py", folder).read_text())
        with torch.device("meta"):
            first = next(module["Network"]().parameters())
        assert first.shape[:2] == (3 * C, channels)
    folder = tmp_path / "imagenet"
    folder.mkdir()
    options = ("--preset", "imagenet")
    module = module_of(exported("PC_DARTS_image", "cell.py", folder, *options).read_text())
    with torch.device("meta"):
        assert hasattr(module["Network"](), "stem0")


def test_code_of_a_search_has_the_stem_of_its_super_net(tmp_path: Path) -> None:
    config = replace(search_config("imagefolder"), stem="cifar")
    search = folder_of_a_search(tmp_path, PUBLISHED["DARTS_V2"], config)
    (folder := tmp_path / "code").mkdir()
    module = module_of(exported(search, "cell.py", folder).read_text())
    with torch.device("meta"):
        assert not hasattr(module["Network"](), "stem0")


HOSTILE = (
    "sep_conv_3x3(C); import os; os.system('touch pwned'); (",
    'none"""',
    "{C}",
    "__import__('os')",
)


@pytest.mark.parametrize("primitive", HOSTILE)
def test_a_hostile_genotype_brings_no_code(
    primitive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = ((primitive, 0), ("skip_connect", 1))
    Genotype(cell, (2,), cell, (2,)).save(tmp_path / "genotype.json")
    assert main(["export", str(tmp_path / "genotype.json"), "-o", str(tmp_path / "cell.py")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "cannot be written as code" in sentence
    assert not (tmp_path / "cell.py").exists()


def test_hostile_arguments_bring_no_code(run: Path, tmp_path: Path) -> None:
    genotype = PUBLISHED["PDARTS"]
    for name, value in (("C", "4): pass\nraise SystemExit\n#"), ("stem", "cifar'\nevil()")):
        with pytest.raises(ValueError):
            python_code(genotype, {**ARGUMENTS, name: value})
        hostile = tmp_path / "weights.safetensors"
        content = export(network_of(genotype), genotype, **{**ARGUMENTS, name: value})
        hostile.write_bytes(content)
        assert main(["export", str(hostile), "-o", str(tmp_path / "cell.py")]) == 2
        assert not (tmp_path / "cell.py").exists()


def test_bad_input_is_one_sentence_and_nothing_is_written(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    weights, genotype = str(run / "weights.safetensors"), PUBLISHED["PDARTS"]
    undescribed = export(network_of(genotype), genotype, **ARGUMENTS)
    (tmp_path / "undescribed.safetensors").write_bytes(undescribed)
    (tmp_path / "search").mkdir()
    genotype.save(tmp_path / "search" / "genotype.json")
    (tmp_path / "search" / "architecture.jsonl").write_text("")
    images = {"preset": "imagefolder", "data_dir": Path("pictures"), "image_size": 32}
    config = replace(search_config("imagefolder"), **images, damaged_images="skip")
    save_settings(config, tmp_path / "search" / "config.yaml")
    (tmp_path / "half").mkdir()
    save_settings(train_config("digits"), tmp_path / "half" / "config.yaml")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(b"no weights")
    before = sorted(tmp_path.rglob("*"))
    for args, wanted in (
        ([str(run), "-o", "net.pkl"], "wanted one of .onnx, .pt2, .safetensors, .py"),
        ([str(run), "-o", "net"], "a name without ending"),
        ([str(run), "-o", "no/net.onnx"], "no folder no"),
        (["nothing", "-o", "net.onnx"], "no run, weights or genotype nothing"),
        (["undescribed.safetensors", "-o", "net.pt2"], "give it with --image-size"),
        ([weights, "-o", "net.pt2", "--image-size", "0"], "--image-size is 0"),
        ([weights, "-o", "cell.py", "--image-size", "8"], "--image-size is for .onnx and .pt2"),
        (
            ["search", "-o", "net.onnx"],
            "pcdarts train --genotype search/genotype.json --preset imagefolder "
            "--data-dir pictures --image-size 32 --damaged-images skip",
        ),
        (["half", "-o", "net.onnx"], "pcdarts train --resume --output-dir half"),
        (["empty", "-o", "net.onnx"], "no run in empty: it holds no config.yaml"),
        (["empty", "-o", "cell.py"], "no run in empty: it holds no config.yaml"),
        (["PDARTS", "-o", "net.pt2"], "pcdarts train --genotype PDARTS"),
        (["damaged.safetensors", "-o", "net.pt2"], "cannot be read"),
        (["damaged.safetensors", "-o", "cell.py"], "cannot be read"),
        (["PDARTS", "-o", "cell.py", "--preset", "mnist"], "unknown preset 'mnist'"),
        (["search", "-o", "cell.py", "--preset", "cifar10"], "runs and weights know their own"),
        ([weights, "-o", "net.pt2", "--preset", "cifar10"], "runs and weights know their own"),
    ):
        assert main(["export", *args]) == 2, args
        (sentence,) = capsys.readouterr().err.splitlines()
        assert wanted in sentence
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_onnx_packages_are_named(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pcdarts_fast.nn import interchange

    monkeypatch.setattr(interchange, "find_spec", lambda name: None)
    assert main(["export", str(run), "-o", str(tmp_path / "net.onnx")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "pip install onnx onnxscript onnxruntime" in sentence
    assert list(tmp_path.iterdir()) == []
