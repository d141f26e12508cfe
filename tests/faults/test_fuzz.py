"""Hostile files: whatever their bytes, a clean error or the right content. `--nightly`: 105,000."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save

from pcdarts_fast.data import load
from pcdarts_fast.errors import UserError
from pcdarts_fast.nn.derived import DerivedNetwork
from pcdarts_fast.nn.exported import TrainedOn, export, load_network, read_metadata
from pcdarts_fast.run.checkpoint import load_checkpoint, save_checkpoint
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.folder import RunFolder, read_lines
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.settings import load_settings, save_settings
from pcdarts_fast.search.state import SearchState, new_state
from pcdarts_fast.search.steps import architecture_step, weight_step
from pcdarts_fast.space import PUBLISHED, Genotype

Draw = random.Random
ODD = (None, True, -1, 2**70, 1e999, "", "none", "\ud800", [], [[]], {}, {"epoch": []}, 0.5, "../x")


def mangled(content: bytes, draw: Draw) -> bytes:
    """Some bits flipped, or a part cut out, doubled or replaced."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(data) + 1)
        part = slice(start, start + draw.choice((1, 1, 4, 100)))
        match draw.randrange(5):
            case 0 if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case 1:
                del data[part]
            case 2:
                data[start:start] = data[part]
            case 3:
                data[part] = draw.randbytes(draw.randrange(8))
            case 4:
                del data[start:]
    return bytes(data)


def altered(value: object, draw: Draw) -> object:
    """A tree of lists and dictionaries with something else in one place."""
    if isinstance(value, (list, tuple)) and value and draw.random() < 0.8:
        items = list(value)
        at = draw.randrange(len(items))
        items[at : at + 1] = [] if draw.random() < 0.1 else [altered(items[at], draw)]
        return items
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: altered(value[key], draw)}
    if isinstance(value, torch.Tensor) and draw.random() < 0.5:
        return draw.choice((value[None], value.flatten()[:1], value.long(), value.to_sparse()))
    return draw.choice(ODD)


def survives(read: Callable[[], object]) -> None:
    """`read` returns or says why not; any other exception is the defect that is looked for."""
    try:
        read()
    except UserError as error:
        assert str(error).strip()


@pytest.fixture
def inputs(nightly: bool, request: pytest.FixtureRequest) -> int:
    """How many, by how long one takes; 105,000 at night."""
    at_night = {
        "test_genotypes": 40_000,
        "test_settings": 4_000,
        "test_metrics": 30_000,
        "test_bytes_of_checkpoints": 15_000,
        "test_content_of_checkpoints": 1_000,
        "test_exported_weights": 15_000,
    }
    name = request.node.name
    return at_night[name] if nightly else 30 if name == "test_content_of_checkpoints" else 100


def test_genotypes(tmp_path: Path, inputs: int) -> None:
    draw, path = random.Random(0), tmp_path / "genotype.json"
    text = PUBLISHED["DARTS_V1"].to_json()
    for number in range(inputs):
        odd = json.dumps(altered(json.loads(text), draw)).encode()
        path.write_bytes(mangled(text.encode(), draw) if number % 2 else odd)
        survives(lambda: Genotype.load(path))


def test_settings(tmp_path: Path, inputs: int) -> None:
    draw, path = random.Random(1), tmp_path / "config.yaml"
    save_settings(SearchConfig(), path)
    content = path.read_bytes()
    for number in range(inputs):
        odd = json.dumps(altered(yaml.safe_load(content), draw)).encode()
        path.write_bytes(mangled(content, draw) if number % 2 else odd)
        survives(lambda: load_settings(SearchConfig, path))


def test_metrics(tmp_path: Path, inputs: int) -> None:
    draw, path = random.Random(2), tmp_path / "metrics.jsonl"
    lines = b"".join(json.dumps({"epoch": n, "loss": n / 3}).encode() + b"\n" for n in range(3))
    for _ in range(inputs):
        path.write_bytes(mangled(lines, draw))
        survives(lambda: read_lines(path))


def searched() -> SearchState:
    """Of a super-net with one step behind it, so that its optimizers remember something."""
    config = replace(
        search_config("digits"),
        init_channels=4,
        k=2,
        nodes=1,
        layers=3,
        primitives=("skip_connect", "sep_conv_3x3"),
        backend="reference",
    )
    data = load("digits")
    state = new_state(config, data, "cpu")
    batch = next(data.train.shuffled(4, seed=0))
    architecture_step(state.network, state.arch_optimizer, batch, grad_clip=None)
    weight_step(state.network, state.optimizer, batch, grad_clip=5.0)
    return state


def test_bytes_of_checkpoints(tmp_path: Path, inputs: int) -> None:
    """What is read of a damaged file is the content of the whole one."""
    draw = random.Random(3)
    with RunFolder.create(tmp_path / "run") as folder:
        save_checkpoint(folder, {"epoch": 1, "weights": torch.arange(300.0)})
        content = folder.checkpoint.read_bytes()
        for _ in range(inputs):
            folder.checkpoint.write_bytes(mangled(content, draw))
            try:
                state, _ = load_checkpoint(folder)
            except UserError as error:
                assert "truncated or damaged" in str(error)
                continue
            assert state is not None and state["epoch"] == 1
            assert torch.equal(state["weights"], torch.arange(300.0))


def test_content_of_checkpoints(tmp_path: Path, inputs: int) -> None:
    """A whole file of odd content: refused, or the search takes its next steps with it."""
    draw, state = random.Random(4), searched()
    batch = next(load("digits").train.shuffled(4, seed=0))
    whole = state.checkpoint()
    with RunFolder.create(tmp_path / "run") as folder:
        for _ in range(inputs):
            torch.save(altered(whole, draw), folder.checkpoint)

            def go_on() -> None:
                checkpoint, _ = load_checkpoint(folder)
                assert checkpoint is not None
                state.restore(checkpoint)
                weight_step(state.network, state.optimizer, batch, grad_clip=5.0)
                architecture_step(state.network, state.arch_optimizer, batch, grad_clip=None)

            survives(go_on)


def test_exported_weights(tmp_path: Path, inputs: int) -> None:
    draw, path = random.Random(5), tmp_path / "weights.safetensors"
    arguments = {"C": 2, "num_classes": 2, "layers": 1, "in_channels": 1, "stem": "cifar"}
    genotype = Genotype((("skip_connect", 0), ("skip_connect", 1)), (2,), (("none", 0),) * 2, (2,))
    trained_on = TrainedOn((0.5,), (0.25,), ("cats", "dogs"), 8)
    network = DerivedNetwork(2, 2, 1, genotype, in_channels=1)
    content = export(network, genotype, trained_on, **arguments)
    path.write_bytes(content)
    assert load_network(path)(torch.zeros(1, 1, 8, 8))[0].shape == (1, 2)
    assert read_metadata(path)[2] == trained_on
    # Copies, since tensors of `load_file` are mapped from the file, which is overwritten below.
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    metadata = {"genotype": genotype.to_json(), "network": json.dumps(arguments)}
    for number in range(inputs):
        odd = json.dumps(altered(json.loads(trained_on.to_json()), draw))
        with_odd = save(state, metadata | {"trained_on": odd})
        path.write_bytes(mangled(content, draw) if number % 2 else with_odd)
        survives(lambda: load_network(path))


def test_a_checkpoint_of_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return (Path(tmp_path / "harm").touch, ())

    buffer = io.BytesIO()
    torch.save({"epoch": 1, "harm": Harm()}, buffer)
    with RunFolder.create(tmp_path / "run") as folder:
        folder.checkpoint.write_bytes(buffer.getvalue())
        with pytest.raises(UserError, match="truncated or damaged"):
            load_checkpoint(folder)
    assert not (tmp_path / "harm").exists()
