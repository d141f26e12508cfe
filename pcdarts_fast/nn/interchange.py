"""A network for programs that do not have this package: ONNX and torch.export.

A file is handed out only after its content was loaded again, run, and found to give the network's
logits. The batch is of any size, the images are of the size asked for.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .derived import DerivedNetwork
from .exported import TrainedOn

TOLERANCE = 1e-4
"""Largest accepted difference between two logits, as a part of the largest logit (float32)."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Image = tuple[int, int, int]
"""Channels, height, width."""


class Checked(NamedTuple):
    """The content of a file, and the largest difference between its logits and the network's."""

    content: bytes
    difference: float


class _Logits(nn.Module):
    """The network without the place of the auxiliary head's logits."""

    def __init__(self, network: DerivedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)[0]
        return logits


def to_onnx(network: DerivedNetwork, image: Image, trained_on: TrainedOn | None = None) -> Checked:
    """`images` [batch, *image] float32 -> `logits` [batch, num_classes], checked by onnxruntime.

    `network` is in eval mode and on the CPU. The fields of `trained_on` become the model's
    metadata, each as JSON.

    Raises:
        UserError: a package is missing, or onnxruntime computes something else.
    """
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"a .onnx file needs {', '.join(missing)}; "
            f"install what is missing with: pip install {' '.join(ONNX_PACKAGES)}"
        )
    import onnxruntime

    program = torch.onnx.export(
        _Logits(network).eval(),
        (torch.zeros(2, *image),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # Where each operation was called from: paths of this machine.
    for node in (*model.graph.node, *(node for f in model.functions for node in f.node)):
        del node.metadata_props[:]
    for name, value in asdict(trained_on).items() if trained_on else ():
        model.metadata_props.add(key=name, value=json.dumps(value))
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return Checked(content, _difference(network, run, image, "onnxruntime"))


def to_torch_export(
    network: DerivedNetwork, image: Image, trained_on: TrainedOn | None = None
) -> Checked:
    """What `torch.export.load(file).module()` takes: images [batch, *image] -> logits.

    `network` is in eval mode and on the CPU. `trained_on` becomes the extra file trained_on.json.

    Raises:
        UserError: the loaded program computes something else.
    """
    program = torch.export.export(
        _Logits(network).eval(),
        (torch.zeros(2, *image),),
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    file = io.BytesIO()
    beside = {"trained_on.json": trained_on.to_json()} if trained_on else {}
    torch.export.save(program, file, extra_files=beside)
    content = file.getvalue()
    run = torch.export.load(io.BytesIO(content)).module()
    return Checked(content, _difference(network, run, image, "torch.export"))


@torch.no_grad()
def _difference(
    network: DerivedNetwork, run: Callable[[Tensor], Any], image: Image, name: str
) -> float:
    """Over a batch of one and a batch of three random images."""
    largest = 0.0
    for batch in (1, 3):
        generator = torch.Generator().manual_seed(batch)
        images = torch.randn(batch, *image, generator=generator)
        wanted, got = network(images)[0], run(images)
        difference = float((got - wanted).abs().max())
        if not difference <= TOLERANCE * float(wanted.abs().max().clamp(min=1.0)):
            raise UserError(
                f"{name} gives logits that differ from the network's by {difference:.1e}; "
                "nothing was written, .safetensors and .py still can be"
            )
        largest = max(largest, difference)
    return largest
