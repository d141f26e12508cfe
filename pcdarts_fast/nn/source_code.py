"""The network of a genotype as the text of a Python module that needs torch and nothing else.

The text holds primitives only as rows of `CONSTRUCTORS` and numbers only as integers, so that no
genotype, whoever wrote it, can bring code of its own into it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import UserError
from ..space import CELL_INPUTS, Genotype
from . import operations as ops
from .derived import DerivedNetwork
from .exported import ARGUMENTS
from .stem import cifar_stem, imagenet_stems

CONSTRUCTORS: dict[str, Callable[[int], str]] = {
    "none": lambda stride: f"Zero({stride})",
    "max_pool_3x3": lambda stride: f"nn.MaxPool2d(3, {stride}, 1)",
    "avg_pool_3x3": lambda stride: f"nn.AvgPool2d(3, {stride}, 1, count_include_pad=False)",
    "skip_connect": lambda stride: "Identity()" if stride == 1 else "FactorizedReduce(C, C)",
    "sep_conv_3x3": lambda stride: f"SepConv(C, C, 3, {stride}, affine=True)",
    "sep_conv_5x5": lambda stride: f"SepConv(C, C, 5, {stride}, affine=True)",
    "dil_conv_3x3": lambda stride: f"DilConv(C, C, 3, {stride}, affine=True)",
    "dil_conv_5x5": lambda stride: f"DilConv(C, C, 5, {stride}, affine=True)",
}
"""Primitive -> the expression that makes it on C channels, for a stride."""

HEAD = '''"""A network found by architecture search; it needs torch alone. By `pcdarts export`.

    network = Network()
    network.load_state_dict(safetensors.torch.load_file("weights.safetensors"))
    logits = network.eval()(images)  # [B, in_channels, H, W] -> [B, num_classes]

State 0 of a cell is the output of the cell before the previous one, state 1 that of the previous
one; the others are its nodes. The auxiliary head and drop path, which only training from scratch
uses, are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
'''

CELL = '''class {name}(nn.Module):
    """{purpose}"""

    channels = {outputs}  # times C come out

    def __init__(self, C_before: int, C_previous: int, C: int, *, reduction_before: bool) -> None:
        super().__init__()
        first = FactorizedReduce if reduction_before else ReLUConvBN
        self.preprocess0 = first(C_before, C)
        self.preprocess1 = ReLUConvBN(C_previous, C)
        self._ops = nn.ModuleList(
            [
{operations}
            ]
        )

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        s0, s1 = self.preprocess0(s0), self.preprocess1(s1)
        op = self._ops
{nodes}
        return torch.cat([{concat}], dim=1)
'''

NETWORK = '''class Network(nn.Module):
    """Cells with reductions at one third and at two thirds of the depth, then a classifier."""

    def __init__(
        self,
        C: int = {C},
        num_classes: int = {num_classes},
        layers: int = {layers},
        in_channels: int = {in_channels},
    ) -> None:
        super().__init__()
{stem}
        self.cells = nn.ModuleList()
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            C = 2 * C if reduction else C
            kind = ReductionCell if reduction else NormalCell
            cell = kind(C_before, C_previous, C, reduction_before=reduction_before)
            self.cells.append(cell)
            C_before, C_previous, reduction_before = C_previous, kind.channels * C, reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(C_previous, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, in_channels, H, W] -> logits [B, num_classes]."""
{states}
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        return self.classifier(self.global_pooling(s1).flatten(1))
'''

STEMS = {
    "cifar": (
        "C_before = C_previous = 3 * C",
        "reduction_before = False",
        "self.stem = cifar_stem(in_channels, C_previous)",
    ),
    "imagenet": (
        "C_before = C_previous = C",
        "reduction_before = True",
        "self.stem0, self.stem1 = imagenet_stems(in_channels, C)",
    ),
}
STATES = {
    "cifar": ("s0 = s1 = self.stem(x)",),
    "imagenet": ("s0 = self.stem0(x)", "s1 = self.stem1(s0)"),
}


def python_code(genotype: Genotype, arguments: Mapping[str, Any]) -> str:
    """A module with a class `Network`; `arguments` (of `exported.ARGUMENTS`) are its defaults.

    Its state_dict has the names of `DerivedNetwork`'s without the auxiliary head, and on the same
    weights its logits have the same bits.

    Raises:
        UserError: `DerivedNetwork` does not take the arguments, or a primitive has no row in
            `CONSTRUCTORS`.
    """
    for primitive, _ in (*genotype.normal, *genotype.reduce):
        if primitive not in CONSTRUCTORS:
            raise UserError(
                f"primitive {primitive!r} cannot be written as code; "
                f"known: {', '.join(CONSTRUCTORS)} (.onnx and .pt2 take any)"
            )
    values = {name: kind(arguments[name]) for name, kind in ARGUMENTS.items()}
    with torch.device("meta"):  # refuses what cannot be built
        DerivedNetwork(genotype=genotype, **values)
    stem = values.pop("stem")
    cells = (
        _cell(genotype.normal, genotype.normal_concat, reduction=False),
        _cell(genotype.reduce, genotype.reduce_concat, reduction=True),
    )
    network = NETWORK.format(stem=_lines(STEMS[stem], 8), states=_lines(STATES[stem], 8), **values)
    used = _operations("".join((*cells, network)))
    return "\n\n".join((HEAD, *used, *cells, network))


def _cell(edges: tuple[tuple[str, int], ...], concat: tuple[int, ...], *, reduction: bool) -> str:
    made = []
    for number, (primitive, source) in enumerate(edges):
        stride = 2 if reduction and source < CELL_INPUTS else 1
        target = CELL_INPUTS + number // 2
        code = CONSTRUCTORS[primitive](stride)
        made.append(f"{code},  # op[{number}]: state {source} to state {target}")
    nodes = [
        f"s{CELL_INPUTS + n // 2} = op[{n}](s{edges[n][1]}) + op[{n + 1}](s{edges[n + 1][1]})"
        for n in range(0, len(edges), 2)
    ]
    return CELL.format(
        name="ReductionCell" if reduction else "NormalCell",
        purpose="Halves H and W." if reduction else "Keeps H and W.",
        outputs=len(concat),
        operations=_lines(made, 16),
        nodes=_lines(nodes, 8),
        concat=", ".join(f"s{state}" for state in concat),
    )


def _operations(text: str) -> list[str]:
    """The source of everything of ours that `text` uses, as it stands in this package."""
    sources: dict[str, Callable[..., Any]] = {}
    for made in (cifar_stem, imagenet_stems, ops.SepConv, ops.DilConv):
        if re.search(rf"\b{made.__name__}\(", text):
            sources[made.__name__] = made
    if {"SepConv", "DilConv"} & set(sources):
        sources["_depthwise_separable"] = ops._depthwise_separable
    for used in (ops.Zero, ops.Identity, ops.ReLUConvBN, ops.FactorizedReduce):
        if re.search(rf"\b{used.__name__}\b", text):
            sources[used.__name__] = used
    return [
        re.sub(r"  # type: ignore\[.*\]", "", inspect.getsource(made)) for made in sources.values()
    ]


def _lines(lines: list[str] | tuple[str, ...], indent: int) -> str:
    return "\n".join(" " * indent + line for line in lines)
