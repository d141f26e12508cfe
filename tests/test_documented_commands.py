"""Every command of the documents works: `pcdarts` runs with tiny settings, the rest is checked.

What takes long for real runs elsewhere: `pytest` and `cmake` in .ci/run, `torchrun` in
tests/distributed, exports in tests/cli/test_export.py.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image

from pcdarts_fast.cli import main
from pcdarts_fast.cli.main import COMMANDS
from pcdarts_fast.data import DATASETS, Augment, Dataset, catalogue
from pcdarts_fast.data.image_set import MemoryImages
from pcdarts_fast.nn import interchange, operations
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.nn.exported import TrainedOn, export
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import PUBLISHED
from pcdarts_fast.train.presets import train_config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROGRAMS = ("cmake", "ctest", "mkdocs", "pcdarts", "pip", "pytest", "python", "torchrun")
GENOTYPE = PUBLISHED["DARTS_V2"]

TINY = {
    "search": {
        **{"--init-channels": "4", "--k": "2", "--layers": "3", "--nodes": "1"},
        **{"--epochs": "1", "--frozen-epochs": "0", "--batch-size": "256"},
        **{"--primitives": "none skip_connect", "--workers": "0", "--device": "cpu"},
    },
    "train": {
        **{"--init-channels": "2", "--layers": "2", "--epochs": "1", "--batch-size": "256"},
        **{"--workers": "0", "--device": "cpu"},
    },
    "compare": {
        **{"--init-channels": "2", "--layers": "1", "--epochs": "1", "--batch-size": "512"},
        **{"--auxiliary-weight": "0", "--seeds": "0..0", "--device": "cpu"},
    },
}
"""Added to the commands that would take hours, but for the options that they have themselves."""


def commands(*programs: str) -> list:
    """Every command of these programs in a code line or between backticks, each once.

    Between backticks `pcdarts NAME` alone may be the name of a command: its help must exist.
    """
    found: dict[str, Path] = {}
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        lines = re.findall(r"^(?: {2,}|\$ )(\S.*)$", text, re.MULTILINE)
        fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        lines += [line for block in fenced for line in block.splitlines()]
        inline = re.findall(r"`([^`\n]+ [^`\n]+)`", re.sub(r"^```\w*$", "", text, flags=re.M))
        for line in (*lines, *inline):
            for part in re.sub(r"^source <\((.*)\)$", r"\1", line.strip()).split(" && "):
                command = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", part.strip())
                if command.split(" ")[0] in programs and " " in command:
                    alone = line in inline and re.fullmatch(r"pcdarts [a-z]+", command)
                    found[f"{command} --help" if alone else command] = path
    name = {line: f"{path.relative_to(ROOT).as_posix()}-{line}" for line, path in found.items()}
    return [pytest.param(line, id=name[line]) for line in sorted(found)]


def words(line: str) -> list[str]:
    """The arguments of a command, without what its output is redirected to."""
    split = shlex.split(line, comments=True)
    return split[1 : split.index(">") if ">" in split else None]


def test_the_commands_are_found():
    assert {words(line.values[0])[0] for line in commands("pcdarts")} >= set(COMMANDS)
    assert all(commands(program) for program in PROGRAMS)


class Parsed(Exception):
    """The options of a command were accepted; nothing of it has run."""


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """An empty folder, data sets of a few images, an operation of one's own, and no ONNX."""
    monkeypatch.chdir(tmp_path)
    images = MemoryImages(
        torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8),
        torch.arange(40) % 10,
        (0.5,) * 3,
        (0.5,) * 3,
        Augment(),
    )
    row = catalogue.Row(lambda _request: Dataset(10, 3, 32, images, images), Augment())
    monkeypatch.setitem(DATASETS, "cifar10", row)
    for name in ("cats/1", "cats/2", "dogs/1", "dogs/2"):
        for part in ("train", "val"):
            path = tmp_path / "pictures" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (80, 70)).save(path)
    monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
    operations.OPERATIONS["conv_3x3"] = operations.OPERATIONS["dil_conv_3x3"]
    written = interchange.Checked(b"onnx", 0.0)
    monkeypatch.setattr(interchange, "to_onnx", lambda *_: written)


def leave_behind(path: Path) -> None:
    """What the command before would have left: a genotype, weights, or the folder of a run."""
    arguments = {"C": 2, "num_classes": 10, "layers": 3, "in_channels": 3, "stem": "cifar"}
    if path.exists() or str(path) in PUBLISHED:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        network = DerivedNetwork(genotype=GENOTYPE, **arguments)
        trained_on = TrainedOn((0.5,) * 3, (0.25,) * 3, (), 32)
        path.write_bytes(export(network, GENOTYPE, trained_on, **arguments))
    elif path.suffix == ".json" or path.name.isupper():
        GENOTYPE.save(path)
    else:
        leave_run(path, *re.sub(r"-\d+$", "", path.name).split("-", 1))


def leave_run(path: Path, kind: str, preset: str) -> None:
    """The folder of a search, of a training or of a comparison, an epoch behind it."""
    if kind == "compare":
        leave_run(path / "DARTS_V2" / "seed-0", "train", preset)
        (path / "compare.json").write_text("{}")
        return
    path.mkdir(parents=True)
    GENOTYPE.save(path / "genotype.json")
    (path / "metrics.jsonl").write_text('{"epoch": 0, "train_loss": 2.3}\n')
    if kind == "train":
        leave_behind(path / "weights.safetensors")
        save_settings(train_config(preset), path / "config.yaml")
    else:
        (path / "architecture.jsonl").write_text("")
        save_settings(search_config(preset), path / "config.yaml")


@pytest.mark.parametrize("line", commands("pcdarts"))
@pytest.mark.filterwarnings("ignore:Detected no triton:UserWarning")
def test_pcdarts(line, small_world):
    name, *arguments = words(line)
    if "--help" in arguments or "--help-all" in arguments:
        with pytest.raises(SystemExit) as leaving:
            main([name, *arguments])
        assert leaving.value.code == 0
    elif "--resume" in arguments:
        folder = arguments[arguments.index("--output-dir") + 1]
        genotype = ["--genotype", "PDARTS"] if name == "train" else []
        assert main([name, *genotype, *tiny(name, []), "--output-dir", folder]) == 0
        assert main([name, *arguments]) == 0
    elif name in ("search", "train"):
        if "--genotype" in arguments:
            leave_behind(Path(arguments[arguments.index("--genotype") + 1]))
        assert main([name, *arguments, *tiny(name, arguments)]) == 0
    elif name in ("count", "show", "export"):
        leave_behind(Path(arguments[0]))
        assert main([name, *arguments]) == 0
    elif name == "report":
        for run in map(Path, arguments[: -2 if "-o" in arguments else None]):
            leave_run(run, "search", "digits") if run.name == "RUN" else leave_behind(run)
        assert main([name, *arguments]) == 0
        page = Path(arguments[-1]) if "-o" in arguments else Path(arguments[0]) / "report.html"
        assert page.read_text().startswith("<!DOCTYPE html>")
    elif name == "compare":
        few = [re.sub(r"^(random:|0\.\.)\d+$", r"\g<1>1", word) for word in arguments]
        leave_behind(Path(few[0]))
        assert main([name, *few, *tiny(name, few)]) == 0
        (summary,) = Path("runs").glob("compare*/compare.json")
        saved = json.loads(summary.read_text())
        assert saved["trainings_done"] == saved["trainings"] >= 3
    else:
        assert name in ("completion", "info")
        assert main([name, *arguments]) == 0


def tiny(name: str, arguments: list[str]) -> list[str]:
    added = {option: value for option, value in TINY[name].items() if option not in arguments}
    return [word for option, value in added.items() for word in (option, *value.split())]


def parse_only(parse: Callable) -> Callable:
    def only(*args, **kwargs):
        parse(*args, **kwargs)
        raise Parsed

    return only


@pytest.mark.parametrize("line", commands("torchrun"))
def test_torchrun(line, monkeypatch):
    from torch.distributed.run import get_args_parser

    options = get_args_parser().parse_args(words(line))
    assert options.module and options.training_script == "pcdarts_fast"
    monkeypatch.setattr(tyro, "cli", parse_only(tyro.cli))
    with pytest.raises(Parsed):
        main(options.training_script_args)


@pytest.fixture(scope="module")
def help_of_pytest() -> str:
    """With the options of the conftest files of the tests and of the benchmarks."""
    command = [sys.executable, "-m", "pytest", "--help", "tests", "benchmarks"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("line", commands("pytest"))
def test_pytest(line, help_of_pytest):
    arguments = words(line)
    for before, word in zip(["", *arguments], arguments, strict=False):
        if word.startswith("--"):
            assert re.search(rf"^ +(\S+, )?{word.split('=')[0]}\b", help_of_pytest, re.M), word
        elif before == "-m":
            assert f'"{word}: ' in (ROOT / "pyproject.toml").read_text()
        elif not word.startswith("-") and before != "-k":
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("line", commands("pip"))
def test_pip(line):
    extras = re.findall(r"\[([\w,]+)\]", line)
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    assert {extra for found in extras for extra in found.split(",")} <= set(known)
    assert words(line)[0] == "install"


@pytest.mark.parametrize("line", commands("cmake", "ctest", "mkdocs"))
def test_what_ci_runs(line):
    """.ci/run builds, tests and documents by these commands; their options are in the files."""
    script, lists = (ROOT / ".ci" / "run").read_text(), (ROOT / "CMakeLists.txt").read_text()
    program = " ".join(line.split()[:2])
    assert re.search(rf"^ *(\w+=\S+ )?{re.escape(program)}\b", script, re.M)
    for option in re.findall(r"-D(\w+)=", line):
        assert option.startswith("CMAKE_") or option in lists, option


def load_script(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", commands("python"))
def test_python(line, tmp_path, monkeypatch):
    script, *arguments = words(line)
    if script == "examples/custom_operation.py":
        monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
        module = load_script(script)
        monkeypatch.setattr(module, "OPERATIONS", operations.OPERATIONS)
        assert 0 <= module.main(tmp_path, epochs=1, train_epochs=1) <= 1
        assert (tmp_path / "search" / "genotype.json").exists()
        assert (tmp_path / "train" / "weights.safetensors").exists()
    elif script == "benchmarks/plot.py":
        row = {"group": "edge", "params": {"direction": "forward+backward"}}
        results = {
            "benchmarks": [row | {"extra_info": {"ratio": 2.0}}],
            "machine_info": {"cpu": {}},
            "datetime": "2026-01-01T00:00:00",
        }
        (tmp_path / "results.json").write_text(json.dumps(results))
        drawing = tmp_path / Path(arguments[1]).name
        command = [sys.executable, script, str(tmp_path / arguments[0]), str(drawing)]
        subprocess.run(command, cwd=ROOT, check=True)
        assert "edge" in drawing.read_text() or drawing.stat().st_size > 1000
    elif script == "benchmarks/image_loader.py":
        few = ["--classes", "2", "--images", "4", "--batch-size", "2", "--steps", "1"]
        photos = str(tmp_path / arguments[0])
        for given in dict.fromkeys([("--write",), tuple(arguments[1:])]):
            command = [sys.executable, script, photos, *given, *few]
            subprocess.run(command, cwd=ROOT, check=True)
        assert len(list((tmp_path / arguments[0]).rglob("*.jpg"))) == 2 * (4 + 1)
    elif script.startswith("experiments/"):  # takes minutes to hours; tests/test_results.py
        subprocess.run([sys.executable, script, "--help"], cwd=ROOT, check=True)
    else:  # takes minutes; tests/triton and tests/cuda run a part of them
        assert script in ("benchmarks/triton_resources.py", "benchmarks/cuda_resources.py")
        options = {word for word in arguments if word.startswith("--")}
        assert options and all(f'"{option}"' in (ROOT / script).read_text() for option in options)
