"""The GPU engines against the eager modules in float64: edges, preprocessing, partial mixing."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.ops import partial_mix
from pcdarts_fast.testing.cases import CASES, Case, leaves
from pcdarts_fast.testing.golden import load_golden, under
from pcdarts_fast.testing.preprocess import Preprocess
from pcdarts_fast.testing.tolerances import relative_error, tolerance
from pcdarts_fast.testing.training_pass import Results, coarse_images, training_pass
from pcdarts_fast.testing.twins import edge_twins, twins

pytestmark = pytest.mark.gpu
GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = {op: [case for case in cases if not case.bench] for op, cases in CASES.items()}
# norm of difference over norm, of states stored in each dtype: values, gradients
BARS = {
    torch.float32: (1e-6, 1e-5),
    torch.bfloat16: (2e-2, 6e-2),
    torch.float16: (2e-3, 6e-3),
}


def compare(got: Results, wanted: Results, dtype: torch.dtype = torch.float32) -> None:
    values, gradients = BARS[dtype]
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        bar = values if name == "out" or "running" in name else gradients
        error = relative_error(got[name].cpu(), value)
        assert error < bar or torch.allclose(
            got[name].double().cpu(), value.double(), atol=bar / 10
        ), f"{name}: {error}"


def check_edge(
    engine: Any,
    C: int,
    stride: int,
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    training: bool = True,
    columns: int = 8,
    **options: Any,
) -> None:
    reference, fused = edge_twins(C, stride, engine.backend, **options)
    x = coarse_images(*shape).to(dtype).double()  # both sides start from the same numbers
    alpha = torch.linspace(-1, 1, columns, dtype=torch.float64).softmax(0)
    wanted = training_pass(reference.double().train(training), [x, alpha])
    fused.to(engine.device).train(training)
    got = training_pass(fused, [x.to(engine.device, dtype), alpha.to(engine.device, torch.float32)])
    compare(got, wanted, dtype)


@pytest.mark.parametrize("memory", ["recompute", "store"])
@pytest.mark.parametrize("case", SMALL["mixed_op"], ids=lambda case: case.id)
def test_edge(engine: Any, case: Case, memory: str) -> None:
    arguments = case.make()
    shape = tuple(arguments["x"].shape)
    check_edge(engine, arguments["C"], arguments["stride"], shape, memory=memory)


def test_a_channel_without_variance_comes_out_as_zero(engine: Any) -> None:
    """See tests/nn/test_fused_network.py."""
    edge = FusedPartialMixedOp(8, 1, primitives=("max_pool_3x3",), backend=engine.backend)
    x = 100 + torch.rand(1, 8, 2, 2)
    out = edge.to(engine.device)(x.to(engine.device), torch.ones(1, device=engine.device))
    mixed = out.unflatten(1, (2, 4))[:, :, 0]
    assert torch.equal(mixed, torch.zeros_like(mixed))


@pytest.mark.parametrize("dtype", BARS, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("C_in", "C"), [(5, 8), (20, 40)])
def test_preprocessing(engine: Any, C_in: int, C: int, stride: int, dtype: torch.dtype) -> None:
    reference, fused = twins(lambda name: Preprocess(stride, name, C_in, C), engine.backend)
    x = coarse_images(3, C_in, 6, 10).to(dtype).double()
    wanted = training_pass(reference.double(), [x])
    compare(training_pass(fused.to(engine.device), [x.to(engine.device, dtype)]), wanted, dtype)


@pytest.mark.parametrize("stride", [1, 2])
def test_preprocessing_in_eval_mode(engine: Any, stride: int) -> None:
    reference, fused = twins(lambda name: Preprocess(stride, name), engine.backend)
    x = coarse_images(3, 5, 6, 10)
    wanted = training_pass(reference.double().eval(), [x])
    got = training_pass(fused.to(engine.device).eval(), [x.to(engine.device, torch.float32)])
    compare(got, wanted)


@pytest.mark.parametrize("tile", [(64, 2), (512, 8)], ids=str)
def test_triton_computes_the_same_in_any_tile(
    engine: Any, tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.backend != "triton":
        pytest.skip("only Triton's programs have tiles to choose")
    forward = import_module("pcdarts_fast.ops.mixed_cell._triton.forward")
    monkeypatch.setattr(forward, "tile_of", lambda channels: tile)
    check_edge(engine, 8, 1, (3, 8, 6, 10))


def test_triton_adds_up_many_tiles_in_turns(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kernels do from some hundred tiles on: here with one tile a turn."""
    if engine.backend != "triton":
        pytest.skip("only Triton's programs have tiles to choose")
    ops = "pcdarts_fast.ops"
    for where in ("mixed_cell._triton.forward", "mixed_cell._triton.backward", "_triton.sums"):
        monkeypatch.setattr(import_module(f"{ops}.{where}"), "power_of_2", lambda n: 1)
    launches = import_module(f"{ops}.relu_conv_bn._triton.launches")
    monkeypatch.setattr(launches, "power_of_2", lambda n: 1)
    forward = import_module(f"{ops}.mixed_cell._triton.forward")
    monkeypatch.setattr(forward, "tile_of", lambda channels: (64, 2))
    primitives = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")
    check_edge(engine, 8, 1, (3, 8, 6, 10), primitives=primitives, columns=3)
    reference, fused = twins(lambda name: Preprocess(1, name), engine.backend)
    x = coarse_images(3, 5, 6, 10)
    wanted = training_pass(reference.double(), [x])
    compare(training_pass(fused.to(engine.device), [x.to(engine.device, torch.float32)]), wanted)


@pytest.mark.parametrize("stride", [1, 2])
def test_edge_in_eval_mode(engine: Any, stride: int) -> None:
    check_edge(engine, 8, stride, (2, 8, 6, 10), training=False)


def test_pools_of_one_kind_with_running_statistics_of_their_own(engine: Any) -> None:
    primitives = ("max_pool_3x3", "avg_pool_3x3", "max_pool_3x3", "avg_pool_3x3")
    options = {"primitives": primitives, "columns": 4}
    check_edge(engine, 8, 1, (2, 8, 6, 10), training=False, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_edge_stored_in_16_bits(engine: Any, dtype: torch.dtype) -> None:
    check_edge(engine, 8, 1, (3, 8, 6, 10), dtype=dtype)


@pytest.mark.parametrize(
    ("k", "sampling", "shape", "stride", "primitives"),
    [
        (1, "shuffle", (2, 5, 3, 7), 1, ("sep_conv_3x3", "max_pool_3x3", "max_pool_3x3")),
        (2, "shift", (3, 6, 2, 2), 2, ("skip_connect", "none", "dil_conv_5x5")),
        (4, "random", (5, 8, 5, 3), 1, ("avg_pool_3x3", "skip_connect", "skip_connect")),
        (3, "random", (1, 9, 6, 2), 2, ("max_pool_3x3", "sep_conv_5x5", "skip_connect")),
        (2, "shuffle", (2, 4, 1, 3), 1, ("none",)),
    ],
)
def test_any_channels_samplings_and_primitives(
    engine: Any,
    k: int,
    sampling: str,
    shape: tuple[int, ...],
    stride: int,
    primitives: tuple[str, ...],
) -> None:
    options = {"k": k, "sampling": sampling, "primitives": primitives, "columns": len(primitives)}
    check_edge(engine, shape[1], stride, shape, **options)


@pytest.mark.parametrize(("stride", "size"), [(1, 1), (1, 2), (2, 4)])
def test_small_maps_of_many_images_fit_into_a_block(engine: Any, stride: int, size: int) -> None:
    check_edge(engine, 16, stride, (64, 16, size, size))


@pytest.mark.parametrize("name", ["edge_s1_k4", "edge_s2_k4", "edge_s1_k2"])
def test_golden_edge(engine: Any, name: str) -> None:
    meta, vectors = load_golden(GOLDEN / f"{name}.npz")
    edge = FusedPartialMixedOp(meta["C"], meta["stride"], k=meta["k"], backend=engine.backend)
    edge.load_state_dict(under(vectors, "state/"))
    edge.to(engine.device)
    x = vectors["x"].to(engine.device, torch.float32).requires_grad_()
    alpha = vectors["alpha"].to(engine.device, torch.float32).requires_grad_()
    out = edge(x, alpha.softmax(-1))
    out.backward(vectors["grad_out"].to(out))
    assert relative_error(out.cpu(), vectors["out"]) < 1e-6
    assert relative_error(x.grad.cpu(), vectors["grad_x"]) < 1e-5
    assert relative_error(alpha.grad.cpu(), vectors["grad_alpha"]) < 1e-5
    for parameter, value in edge.named_parameters():
        error = relative_error(value.grad.cpu(), vectors[f"grad/{parameter}"])
        assert error < 1e-5, parameter


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, torch.float32) for case in SMALL["partial_mix"]]
    + [(case, dtype) for case in SMALL["partial_mix"][2:5] for dtype in (*BARS,)[1:]],
    ids=lambda given: given.id if isinstance(given, Case) else str(given),
)
def test_partial_mix(engine: Any, case: Case, dtype: torch.dtype) -> None:
    results = []
    for backend, device in (("reference", "cpu"), (engine.backend, engine.device)):
        arguments = case.make(dtype, requires_grad=True)
        tensors = leaves(arguments)
        moved = {
            name: [v.to(device) for v in value]
            if isinstance(value, list)
            else value.to(device)
            if isinstance(value, Tensor)
            else value
            for name, value in arguments.items()
        }
        out = partial_mix(**moved, backend=backend)
        out.square().sum().backward()
        results.append([out.detach().cpu(), *(t.grad for t in tensors if t.grad is not None)])
    for got, wanted in zip(*reversed(results), strict=True):
        torch.testing.assert_close(got, wanted, **tolerance(dtype))


@pytest.mark.parametrize("stride", [1, 2])
def test_more_tiles_than_blocks(engine: Any, stride: int) -> None:
    """CUDA's blocks are 256 at most, and then work through several tiles each."""
    if engine.backend == "triton" and engine.device == "cpu":
        pytest.skip("Triton's programs have a tile each, and so many of them are slow interpreted")
    check_edge(engine, 8, stride, (300, 8, 8 * stride, 8 * stride), k=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
@pytest.mark.parametrize(
    ("C", "k", "stride", "size"), [(16, 4, 1, 32), (64, 4, 1, 8), (32, 4, 2, 32), (64, 2, 1, 7)]
)
def test_sizes_of_the_presets(engine: Any, C: int, k: int, stride: int, size: int) -> None:
    check_edge(engine, C, stride, (16, C, size, size), k=k)
