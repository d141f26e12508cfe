"""Direct calls of the CPU engine: the bits of the dispatcher's, and who is left to it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pcdarts_fast.nn import fused
from pcdarts_fast.nn.cell import SearchCell
from pcdarts_fast.nn.mixed_op import FusedPartialMixedOp
from pcdarts_fast.nn.synchronized import synchronize_batch_norms
from pcdarts_fast.ops import _registry
from pcdarts_fast.space import PRIMITIVES
from pcdarts_fast.testing.preprocess import Preprocess
from pcdarts_fast.testing.training_pass import coarse_images, training_pass

pytestmark = pytest.mark.skipif(
    _registry.why_not_direct() is not None, reason=str(_registry.why_not_direct())
)


def is_direct(out: Tensor) -> bool:
    """Whether C++ made its node of the graph."""
    assert out.grad_fn is not None
    return "CppNode" in out.grad_fn.name()


def edge(C: int = 8, stride: int = 1, **options: Any) -> FusedPartialMixedOp:
    torch.manual_seed(0)
    return FusedPartialMixedOp(C, stride, backend="cpu", **options)


def cell(*, reduction: bool, reduction_prev: bool = False, **options: Any) -> SearchCell:
    torch.manual_seed(0)
    given = {"k": 2, "primitives": PRIMITIVES, "sampling": "shuffle", "memory": "recompute"}
    return SearchCell(
        *(6, 10, 8),
        reduction=reduction,
        reduction_prev=reduction_prev,
        nodes=3,
        backend="cpu",
        **(given | options),
    )


def preprocess(stride: int) -> Preprocess:
    torch.manual_seed(0)
    return Preprocess(stride, "cpu")


def edge_arguments(dtype: torch.dtype = torch.float32, size: int = 6) -> list[Tensor]:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = coarse_images(5, 8, size, size + 2, dtype=dtype)
    return [x, torch.linspace(-1, 1, 8, dtype=wide).softmax(0)]


def cell_arguments(sizes: tuple[int, int] = (6, 6)) -> list[Tensor]:
    s0, s1 = (
        coarse_images(5, C, size, size, dtype=torch.float32)
        for C, size in zip((6, 10), sizes, strict=True)
    )
    return [s0, s1, torch.rand(9, 8).softmax(-1), torch.rand(9)]


CASES: dict[str, tuple[Callable[[], nn.Module], list[Tensor]]] = {
    "edge": (edge, edge_arguments()),
    "stride 2": (lambda: edge(stride=2), edge_arguments()),
    "store": (lambda: edge(memory="store"), edge_arguments()),
    "shift": (lambda: edge(sampling="shift"), edge_arguments()),
    "all channels": (lambda: edge(k=1), edge_arguments()),
    "maps in stacks": (edge, [coarse_images(32, 8, 4, 4, dtype=torch.float32), torch.ones(8)]),
    "bfloat16": (edge, edge_arguments(torch.bfloat16)),
    "float64": (lambda: edge().double(), edge_arguments(torch.float64)),
    "no batch-norm": (
        lambda: edge(primitives=("none", "skip_connect")),
        [edge_arguments()[0], torch.tensor([0.4, 0.6])],
    ),
    "normal cell": (lambda: cell(reduction=False), cell_arguments()),
    "reduction cell": (lambda: cell(reduction=True, memory="store"), cell_arguments()),
    "behind a reduction": (
        lambda: cell(reduction=False, reduction_prev=True),
        cell_arguments((12, 6)),
    ),
    "preprocessing": (lambda: preprocess(1), [coarse_images(3, 5, 6, 8).float()]),
    "factorized": (lambda: preprocess(2), [coarse_images(3, 5, 6, 8).float()]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bits_of_the_dispatcher(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, arguments = CASES[case]
    module, tensors = make(), [t.clone().requires_grad_() for t in arguments]
    got = training_pass(module, arguments)
    assert is_direct(copy.deepcopy(module)(*tensors))
    monkeypatch.setattr(_registry, "_DIRECT", None)
    wanted = training_pass(module, arguments)
    assert not is_direct(copy.deepcopy(module)(*tensors))
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("case", CASES)
def test_running_statistics_move_alike(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, arguments = CASES[case]
    direct, general = make(), make()
    for module in (direct, general):
        for _ in range(2):
            module(*arguments)
        monkeypatch.setattr(_registry, "_DIRECT", None)
    for (name, got), wanted in zip(direct.named_buffers(), general.buffers(), strict=True):
        assert torch.equal(got, wanted), name
        assert got._version == wanted._version, name


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_sees_the_operator() -> None:
    with Seen() as seen:
        edge()(*edge_arguments())
    assert "pcdarts_cpu.mixed_cell_fwd.default" in seen.names


def test_fake_tensors_stay_fake() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = edge()(mode.from_tensor(edge_arguments()[0]), torch.ones(8))
    assert type(out).__name__ == "FakeTensor"
    assert out.shape == (5, 8, 6, 8)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:1].expand(5, -1, -1, -1),
        lambda x: torch.complex(x, -x).conj().imag,
        lambda x: torch.inference_mode()(lambda: x + 0)(),
    ],
    ids=["channels last", "expanded", "negated", "of inference mode"],
)
def test_a_state_that_is_not_plain(prepare: Callable[[Tensor], Tensor]) -> None:
    x, alpha = edge_arguments()
    x = prepare(x)
    out = edge()(x, alpha)
    assert not is_direct(out)
    same = torch.tensor(x.tolist())
    assert torch.equal(out, edge()(same, alpha))


def test_what_is_no_training_is_left_to_the_dispatcher() -> None:
    x, alpha = edge_arguments()
    assert not is_direct(edge().eval()(x, alpha))
    assert not is_direct(edge(sampling="random")(x, alpha))
    assert not is_direct(edge()(x, alpha.double()))
    assert is_direct(edge()(x, alpha))


def test_without_gradients() -> None:
    op, twin = edge(memory="store"), edge(memory="store")
    with torch.no_grad():
        out = op(*edge_arguments())
    assert not out.requires_grad
    assert torch.equal(out, twin(*edge_arguments()))
    with torch.inference_mode():
        assert torch.equal(op(*edge_arguments()), out)


def test_several_processes_are_left_to_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    op = edge()
    synchronize_batch_norms(op)
    monkeypatch.setattr(fused, "sharing", lambda norm: 2)
    with pytest.raises(RuntimeError, match="process group"):
        op(*edge_arguments())


def test_gradients_are_differentiated_once() -> None:
    for case in ("edge", "factorized"):
        make, arguments = CASES[case]
        module = make()
        tensors = [t.clone().requires_grad_() for t in arguments]
        out = module(*tensors)
        assert is_direct(out)
        first, *others = torch.autograd.grad(
            out.square().sum(), [*tensors, *module.parameters()], create_graph=True
        )
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            first.square().sum().backward()
        for gradient in others:
            assert gradient.requires_grad


def test_a_graph_is_gone_after_its_use() -> None:
    op, (x, alpha) = edge(), edge_arguments()
    out = op(x, alpha)
    out.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        out.sum().backward()


@pytest.mark.parametrize("changed", ["weight", "x"])
def test_what_has_changed_since_is_noticed(changed: str) -> None:
    op, (x, alpha) = edge(), edge_arguments()
    out = op(x, alpha)
    with torch.no_grad():
        (x if changed == "x" else next(op.parameters())).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_graph_that_has_saved_running_statistics_notices_their_update() -> None:
    op, (x, alpha) = edge(), edge_arguments()
    buffer = op.get_buffer("_ops.1.1.running_mean")
    product = buffer * torch.ones_like(buffer, requires_grad=True)
    op(x, alpha)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.parametrize(
    "unpack",
    [
        lambda packed: packed.double(),
        lambda packed: packed.t().contiguous().t() if packed.dim() == 2 else packed.clone(),
        lambda packed: torch.stack([packed, packed], -1)[..., 0],
    ],
    ids=["other dtype", "copies", "strided"],
)
@pytest.mark.parametrize("case", ["edge", "normal cell", "factorized"])
def test_hooks_of_saved_tensors(case: str, unpack: Callable[[Tensor], Tensor]) -> None:
    make, arguments = CASES[case]
    wanted = training_pass(make(), arguments)
    packed = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        got = training_pass(make(), arguments)
    assert packed
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


def test_checkpoints() -> None:
    op, twin, (x, alpha) = edge(), edge(), edge_arguments()
    x.requires_grad_()
    (wanted,) = torch.autograd.grad(twin(x, alpha).square().sum(), x)
    out = torch.utils.checkpoint.checkpoint(op, x, alpha, use_reentrant=False)
    (got,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("learns", ["x", "alpha", "weights"])
def test_only_what_is_asked_for_has_a_gradient(learns: str) -> None:
    op, (x, alpha) = edge().requires_grad_(learns == "weights"), edge_arguments()
    x.requires_grad_(learns == "x"), alpha.requires_grad_(learns == "alpha")
    out = op(x, alpha)
    assert is_direct(out)
    out.square().sum().backward()
    assert (x.grad is not None, alpha.grad is not None) == (learns == "x", learns == "alpha")
    assert all((p.grad is not None) == (learns == "weights") for p in op.parameters())


@pytest.mark.parametrize("memory", ["recompute", "store"])
def test_z_is_saved_on_demand(memory: str) -> None:
    op, packed = edge(memory=memory, primitives=("dil_conv_3x3",)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.numel()), lambda _: _):
        op(edge_arguments()[0], torch.ones(1))
    z = 5 * 2 * 6 * 8  # B, C/k, H, W
    assert (z in packed) == (memory == "store")


def test_gradients_that_do_not_lie_in_rows() -> None:
    op, twin, (x, alpha) = edge(), edge(), edge_arguments()
    x.requires_grad_()
    out = op(x, alpha)
    grad = torch.randn(out.shape[::-1]).permute(3, 2, 1, 0)
    (got,) = torch.autograd.grad(out, x, grad, retain_graph=True)
    (wanted,) = torch.autograd.grad(twin(x, alpha), x, grad.contiguous())
    assert torch.equal(got, wanted)
    (got,) = torch.autograd.grad(out, x, torch.complex(-grad, -grad).conj().imag)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda op: pickle.loads(pickle.dumps(op))])
def test_copies_are_trained_by_themselves(make_copy: Callable[[nn.Module], nn.Module]) -> None:
    op, (x, alpha) = edge(), edge_arguments()
    wanted = op(x, alpha)
    twin = make_copy(op)
    with torch.no_grad():
        for parameter in op.parameters():
            parameter.zero_()
    assert torch.equal(twin(x, alpha), wanted)
    assert int(twin.get_buffer("_ops.1.1.num_batches_tracked")) == 2
    assert int(op.get_buffer("_ops.1.1.num_batches_tracked")) == 1


def test_what_is_assigned_counts_at_once() -> None:
    op, other, (x, alpha) = edge(), edge(), edge_arguments()
    op(x, alpha)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3)
    wanted = other(x, alpha)
    op.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(op(x, alpha), wanted)
    assert op.double()(x.double(), alpha.double()).dtype == torch.float64


def test_profilers_name_the_kernels() -> None:
    op, (x, alpha) = edge(), edge_arguments()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        op(x, alpha).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"pcdarts_cpu::mixed_cell_fwd", "pcdarts_cpu::mixed_cell_bwd"} <= names


def test_another_torch_is_not_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    _registry.why_not_direct.cache_clear()
    assert "and 2.99.0 runs; install again" in str(_registry.why_not_direct())
    _registry.why_not_direct.cache_clear()
