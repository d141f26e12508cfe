"""mixed_cell and what serves it keep torch.library's contract: schema, fake kernel, autograd."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from pcdarts_fast.errors import UserError
from pcdarts_fast.ops import channel_tables, mixed_cell, why_not
from pcdarts_fast.ops._registry import kernel
from pcdarts_fast.ops.mixed_cell import CellGraph
from pcdarts_fast.ops.mixed_cell.schema import KINDS, primitive_shape

pytestmark = pytest.mark.skipif(why_not("cpu") is not None, reason=str(why_not("cpu")))

B, C, K, H, W = 32, 8, 4, 2, 3  # float32 in stacks of eight samples, bfloat16 one by one
INPUTS, NODES, EPS = 2, 2, 1e-5


def weights_of(primitives: list[int], stride: int, dtype: torch.dtype) -> list[Tensor]:
    """Of all edges, in the order of mixed_cell."""
    n, weights = C // K, []
    for target in range(INPUTS, INPUTS + NODES):
        for source in range(target):
            for code in primitives:
                name, s = KINDS[code], stride if source < INPUTS else 1
                shape = primitive_shape(name, s)
                if not shape.units:
                    continue
                if name == "skip_connect":
                    weights += [torch.randn(n // 2, n, 1, 1, dtype=dtype) for _ in range(2)]
                    continue
                size = int(name[-1])
                for _ in range(shape.slots):
                    weights.append(torch.randn(n, 1, size, size, dtype=dtype))
                    weights.append(torch.randn(n, n, 1, 1, dtype=dtype))
    return weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("store", "training"), [(False, True), (True, True), (False, False)])
def test_opcheck(store: bool, training: bool, stride: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    primitives = list(range(len(KINDS)))
    edges = sum(range(INPUTS, INPUTS + NODES))
    inputs = [torch.randn(B, C, H * stride, W * stride).to(dtype) for _ in range(INPUTS)]
    alpha, beta = torch.rand(edges, len(KINDS)), torch.rand(edges)
    weights = weights_of(primitives, stride, torch.float32)
    source, destination = map(list, channel_tables(C, K))
    graph = (primitives, NODES, K, stride, source, destination, EPS)
    forward, backward = (kernel(f"mixed_cell_{way}", "cpu") for way in ("fwd", "bwd"))

    _, mean, variance, _ = forward(inputs, alpha, beta, weights, None, None, *graph, store)
    running = (None, None) if training else (mean, variance)
    opcheck(forward, (inputs, alpha, beta, weights, *running, *graph, store))

    out, _, _, z = forward(inputs, alpha, beta, weights, *running, *graph, store)
    saved = (inputs, alpha, beta, weights, mean, variance, out, z)
    for needs in [([1, 1], True, True, True), ([0, 1], False, True, False)]:
        opcheck(backward, (torch.ones_like(out), *saved, *graph, training, *needs))

    # With others, see tests/distributed; alone, the same kernels.
    alone = [kernel(f"synchronized_mixed_cell_{way}", "cpu") for way in ("fwd", "bwd")]
    opcheck(alone[0], (1, inputs, alpha, beta, weights, *running, *graph, store))
    opcheck(alone[1], (1, torch.ones_like(out), *saved, *graph, training, *needs))


@pytest.mark.parametrize(
    ("shape", "weight", "error", "message"),
    [
        ((2, 8, 7, 6), None, UserError, "wanted even sizes for stride 2"),
        ((2, 8, 6, 7), None, UserError, "wanted even sizes for stride 2"),
        ((2, 6, 4, 6), None, UserError, "a multiple of k=4"),
        ((2, 8, 4), None, UserError, r"wanted \[B, C, H, W\]"),
        ((0, 8, 4, 6), None, UserError, "without empty sizes"),
        ((2, 8, 4, 6), (2, 2, 3, 3), RuntimeError, r"weights\[1\] has 36 elements, wanted 4"),
        ((2, 8, 4, 6), (1, 1, 1, 1), RuntimeError, r"weights\[1\] has 1 elements, wanted 4"),
    ],
)
def test_arguments_that_do_not_fit(
    shape: tuple[int, ...],
    weight: tuple[int, ...] | None,
    error: type[Exception],
    message: str,
) -> None:
    graph = CellGraph(("dil_conv_3x3",), 1, 1, K, 2, EPS, False)
    weights = [torch.randn(2, 1, 3, 3), torch.randn(weight or (2, 2, 1, 1))]
    with pytest.raises(error, match=message):
        mixed_cell(
            [torch.randn(shape)],
            torch.ones(1),
            torch.ones(1),
            weights,
            graph=graph,
            tables=channel_tables(8, K),
            running=None,
            backend="cpu",
        )


@pytest.mark.parametrize(
    "other", [torch.zeros(2, 8, 4, 6).double(), torch.zeros(2, 8, 4, 5), torch.zeros(1, 8, 4, 6)]
)
def test_inputs_that_are_not_alike(other: Tensor) -> None:
    with pytest.raises(UserError, match=r"inputs\[1\]: got .*, wanted .* as inputs\[0\]"):
        mixed_cell(
            [torch.zeros(2, 8, 4, 6), other],
            torch.ones(2, 1),
            torch.ones(2),
            [],
            graph=CellGraph(("max_pool_3x3",), 2, 1, K, 1, EPS, False),
            tables=channel_tables(8, K),
            running=None,
            backend="cpu",
        )


@pytest.mark.parametrize("shape", [(1, 2), (2,), (2, 1, 1)])
def test_an_alpha_of_another_shape(shape: tuple[int, ...]) -> None:
    """Transposed, or of as many elements otherwise: not read as rows that it has not."""
    with pytest.raises(UserError, match=r"got \[.*\] and \[2\], wanted \[2, 1\] and \[2\]"):
        mixed_cell(
            [torch.zeros(2, 8, 4, 6)] * 2,
            torch.ones(shape),
            torch.ones(2),
            [],
            graph=CellGraph(("max_pool_3x3",), 2, 1, K, 1, EPS, False),
            tables=channel_tables(8, K),
            running=None,
            backend="cpu",
        )


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "table", [range(1, 9), range(7), [0] * 8], ids=["beyond", "short", "twice"]
)
def test_tables_that_are_no_orders_of_the_channels(place: int, table: Sequence[int]) -> None:
    tables = list(channel_tables(8, K))
    tables[place] = tuple(table)
    with pytest.raises(UserError, match=r"tables must hold 0..7 once each: got (source|dest)"):
        mixed_cell(
            [torch.zeros(2, 8, 4, 6)],
            torch.ones(1),
            torch.ones(1),
            [],
            graph=CellGraph(("max_pool_3x3",), 1, 1, K, 1, EPS, False),
            tables=(tables[0], tables[1]),
            running=None,
            backend="cpu",
        )


def test_a_graph_has_stride_1_or_2() -> None:
    with pytest.raises(UserError, match="stride: got 3, wanted 1 or 2"):
        CellGraph(("max_pool_3x3",), 1, 1, K, 3, EPS, False)


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1)])
def test_running_statistics_that_do_not_fit(sizes: tuple[int, int]) -> None:
    with pytest.raises(RuntimeError, match="running statistics of 1 channels, wanted 2"):
        mixed_cell(
            [torch.randn(2, 8, 4, 6)],
            torch.ones(1),
            torch.ones(1),
            [torch.randn(2, 1, 3, 3), torch.randn(2, 2, 1, 1)],
            graph=CellGraph(("dil_conv_3x3",), 1, 1, K, 1, EPS, False),
            tables=channel_tables(8, K),
            running=(torch.ones(sizes[0]), torch.ones(sizes[1])),
            backend="cpu",
        )
