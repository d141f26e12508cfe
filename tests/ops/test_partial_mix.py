"""partial_mix: every backend against the reference, the reference against plain torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from pcdarts_fast.nn.footprint import saved_bytes
from pcdarts_fast.ops import BACKENDS, partial_mix, resolve
from pcdarts_fast.ops._registry import kernel
from pcdarts_fast.testing.cases import CASES, Case, leaves
from pcdarts_fast.testing.naive import naive_partial_mix
from pcdarts_fast.testing.threads import with_threads
from pcdarts_fast.testing.tolerances import tolerance


def _available(backend: str) -> bool:
    try:
        return resolve(backend, "partial_mix", "cpu") == backend
    except ValueError:
        return False


ON_CPU = [backend for backend in BACKENDS if _available(backend)]
SMALL = [case for case in CASES["partial_mix"] if not case.bench]
each_backend = pytest.mark.parametrize("backend", ON_CPU)
each_case = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)


def results(function, arguments, **keywords) -> list[Tensor]:
    """The output and the gradient of every leaf, for a gradient that tells elements apart."""
    out = function(**arguments, **keywords)
    generator = torch.Generator().manual_seed(2)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    inputs = leaves(arguments)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad, materialize_grads=True)]


def assert_equal(got: list[Tensor], wanted: list[Tensor], **tolerances) -> None:
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w, **tolerances)


def test_cpu_backend_is_tested():
    assert "cpu" in ON_CPU and "reference" in ON_CPU


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_is_plain_torch(case: Case, dtype):
    arguments = case.make(dtype, requires_grad=True)
    got = results(partial_mix, arguments, backend="reference")
    assert_equal(got, results(naive_partial_mix, arguments), **tolerance(dtype))


@each_case
@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_forward_and_every_gradient(case: Case, backend, dtype):
    arguments = case.make(dtype, requires_grad=True)
    got = results(partial_mix, arguments, backend=backend)
    assert_equal(got, results(partial_mix, arguments, backend="reference"), **tolerance(dtype))


@each_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_weights_keep_their_dtype(backend, dtype):
    arguments = CASES["partial_mix"][3].make(torch.bfloat16, requires_grad=True)
    arguments["weights"] = torch.rand(7, dtype=dtype, requires_grad=True)
    got = results(partial_mix, arguments, backend=backend)
    assert [g.dtype for g in got[-2:]] == [dtype, torch.bfloat16]  # of weights and x
    wanted = results(partial_mix, arguments, backend="reference")
    assert_equal(got, wanted, **tolerance(torch.bfloat16))


@each_case
@each_backend
def test_opcheck(case: Case, backend):
    arguments = case.make()
    k, stride, (source, destination) = (arguments[n] for n in ("k", "stride", "tables"))
    outputs, weights, x = (arguments[n] for n in ("outputs", "weights", "x"))
    forward = kernel("partial_mix_fwd", backend)
    opcheck(forward, (outputs, weights, x, k, stride, list(source), list(destination)))
    grad = torch.ones_like(forward(outputs, weights, x, k, stride, source, destination))
    tail = (k, stride, list(source), list(destination))
    for needs in [(True, True, True), (True, False, False), (False, True, True)]:
        opcheck(kernel("partial_mix_bwd", backend), (grad, outputs, weights, x, *tail, *needs))


@each_backend
@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck(backend, stride):
    x = torch.randn(2, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    outputs = [
        torch.randn(2, 2, 4 // stride, 2 // stride, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    weights = torch.rand(3, dtype=torch.float64, requires_grad=True)

    def call(weights: Tensor, x: Tensor, *outputs: Tensor) -> Tensor:
        return partial_mix(outputs, weights, x, k=2, stride=stride, backend=backend)

    assert torch.autograd.gradcheck(call, (weights, x, *outputs))


@each_backend
def test_compile_fullgraph(backend):
    arguments = CASES["partial_mix"][7].make(requires_grad=True)
    eager = results(partial_mix, arguments, backend=backend)
    compiled = torch.compile(partial_mix, fullgraph=True, backend="aot_eager")
    assert_equal(results(compiled, arguments, backend=backend), eager, **tolerance(torch.float32))


def test_compile_with_the_default_compiler():
    arguments = CASES["partial_mix"][5].make(requires_grad=True)
    compiled = torch.compile(partial_mix, fullgraph=True)
    got, wanted = results(compiled, arguments), results(partial_mix, arguments)
    assert_equal(got, wanted, **tolerance(torch.float32))


@pytest.mark.parametrize("stride", [1, 2])
def test_same_bits_whatever_the_number_of_threads(stride):
    arguments = next(
        case.make(requires_grad=True)
        for case in CASES["partial_mix"]
        if case.bench and case.id.endswith(f"s{stride}-p7")
    )
    first, *others = with_threads(lambda: results(partial_mix, arguments, backend="cpu"))
    for other in others:
        assert_equal(other, first, rtol=0, atol=0)


@each_backend
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_go_the_way_of_plain_torch(backend, stride, dtype):
    arguments = {"k": 2, "stride": stride}
    generator = torch.Generator().manual_seed(3)
    special = torch.tensor([0.0, 1.0, 1.0, float("nan"), float("inf"), -float("inf")], dtype=dtype)

    def pick(*shape: int) -> Tensor:
        index = torch.randint(len(special), shape, generator=generator)
        return special[index].requires_grad_()

    arguments["x"] = pick(2, 4, 12, 40)
    arguments["outputs"] = [pick(2, 2, 12 // stride, 40 // stride) for _ in range(2)]
    arguments["weights"] = torch.tensor([0.5, 0.0], dtype=dtype, requires_grad=True)
    got = results(partial_mix, arguments, backend=backend)
    wanted = results(naive_partial_mix, arguments)
    assert_equal(got, wanted, equal_nan=True, **tolerance(dtype))


def _channels_last(t: Tensor) -> Tensor:
    return t.to(memory_format=torch.channels_last)


LAYOUTS = {
    "channels_last": _channels_last,
    "sliced channels": lambda t: torch.cat([t, t, t], 1)[:, t.shape[1] : 2 * t.shape[1]],
    "every other sample": lambda t: torch.stack([t, -t], 1).flatten(0, 1)[::2],
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "cropped": lambda t: torch.nn.functional.pad(t, (1, 2, 1, 0))[:, :, 1:, 1:-2],
    "batch of one, expanded": lambda t: t[:1].expand(t.shape),
}


@each_backend
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend, stride, layout):
    dense = {
        "outputs": [torch.randn(3, 2, 8 // stride, 6 // stride) for _ in range(2)],
        "weights": torch.rand(2),
        "x": torch.randn(3, 8, 8, 6),
    }
    change = LAYOUTS[layout]
    strided = {
        "outputs": [change(output).requires_grad_() for output in dense["outputs"]],
        "weights": dense["weights"].requires_grad_(),
        "x": change(dense["x"]).requires_grad_(),
    }
    copied = {
        "outputs": [o.detach().contiguous().requires_grad_() for o in strided["outputs"]],
        "weights": strided["weights"],
        "x": strided["x"].detach().contiguous().requires_grad_(),
    }

    def call(**arguments) -> Tensor:  # a strided result, so that the gradient is strided too
        return change(partial_mix(**arguments, k=4, stride=stride, backend=backend))

    assert_equal(results(call, strided), results(call, copied), **tolerance(torch.float32))


@each_backend
@pytest.mark.parametrize("wanted", ["outputs", "weights", "x"])
def test_only_what_is_asked_for_is_computed(backend, wanted):
    arguments = CASES["partial_mix"][6].make(requires_grad=True)
    every = dict(zip(["outputs"] * 7 + ["weights", "x"], leaves(arguments), strict=True))
    expected = torch.autograd.grad(
        partial_mix(**arguments, backend="reference").sum(), every[wanted]
    )
    for tensor in leaves(arguments):
        tensor.requires_grad_(tensor is every[wanted])
    out = partial_mix(**arguments, backend=backend)
    out.sum().backward()
    torch.testing.assert_close(every[wanted].grad, *expected, **tolerance(torch.float32))
    assert all(t.grad is None for name, t in every.items() if name != wanted)


@each_backend
def test_saved_bytes(backend):
    B, C, k, H, P = 2, 16, 4, 8, 3
    slice_bytes = B * C // k * H * H * 4

    def saved(stride: int, *trained: str) -> int:
        arguments = {
            "x": torch.randn(B, C, H * stride, H * stride).requires_grad_("x" in trained),
            "weights": torch.rand(P).requires_grad_("weights" in trained),
            "outputs": [torch.randn(B, C // k, H, H, requires_grad=True) for _ in range(P)],
        }
        call = lambda: partial_mix(**arguments, k=k, stride=stride, backend=backend)  # noqa: E731
        return saved_bytes(call, exclude=[arguments["weights"]])

    assert saved(1) == 0  # a weight step keeps nothing but the architecture weights
    assert saved(1, "x") == 0
    assert saved(1, "x", "weights") == P * slice_bytes
    assert saved(2, "x", "weights") == P * slice_bytes + 16 * slice_bytes  # x itself, no indices


def test_differentiating_twice_is_refused():
    arguments = CASES["partial_mix"][3].make(requires_grad=True)
    out = partial_mix(**arguments)
    (grad,) = torch.autograd.grad(out.square().sum(), [arguments["weights"]], create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        grad.sum().backward()


def _call(**changes):
    arguments = {
        "outputs": [torch.zeros(2, 2, 4, 4)] * 3,
        "weights": torch.zeros(3),
        "x": torch.zeros(2, 8, 4, 4),
        "k": 4,
    }
    return partial_mix(**{**arguments, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(8, 4, 4)}, r"x must be \[B, C, H, W\]: got \[8, 4, 4\]"),
        ({"x": torch.zeros(2, 8, 4, 4).half()}, r"outputs\[0\] must be .*float16 .*got.*float32"),
        (
            {
                "x": torch.zeros(2, 8, 4, 4).half(),
                "outputs": [torch.zeros(2, 2, 4, 4).half()] * 3,
                "backend": "cpu",
            },
            "x: got torch.float16, wanted one of float32, float64, bfloat16",
        ),
        ({"k": 3}, "k: got k=3 for C=8"),
        ({"k": 0}, "k: got k=0 for C=8"),
        ({"stride": 3}, "stride: got 3, wanted 1 or 2"),
        ({"x": torch.zeros(2, 8, 5, 4), "stride": 2}, r"x: got H, W = \(5, 4\), wanted even sizes"),
        ({"weights": torch.zeros(2)}, r"weights must be \[P\] for P=3 .* got \[2\]"),
        ({"weights": torch.zeros(3, dtype=torch.int64)}, "floating dtype.*int64"),
        ({"weights": torch.zeros(3, device="meta")}, "weights must be on the device of x.*meta"),
        ({"outputs": [torch.zeros(2, 2, 4, 5)] * 3}, r"outputs\[0\] must be \[2, 2, 4, 4\].*4, 5"),
        ({"outputs": [torch.zeros(2, 2, 4, 4).double()] * 3}, r"outputs\[0\].*got.*float64"),
        ({"tables": ((0,) * 7, (0,) * 8)}, "0..7 once each: got source"),
        ({"tables": (tuple(range(8)), (0,) * 8)}, "0..7 once each: got destination"),
        ({"backend": "gpu"}, "backend 'gpu' cannot run partial_mix"),
        ({"backend": "triton"}, "backend 'triton' cannot run partial_mix on cpu tensors"),
    ],
)
def test_bad_calls(changes, message):
    with pytest.raises(ValueError, match=message):
        _call(**changes)
