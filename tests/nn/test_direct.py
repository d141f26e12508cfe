"""Direct calls of the CPU engine: the bits of the dispatcher's, and who is left to it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pcdarts_fast.nn import fused
from pcdarts_fast.nn.synchronized import synchronize_batch_norms
from pcdarts_fast.ops import _registry
from pcdarts_fast.testing.direct import DIRECT, Seen, edge, edge_arguments, is_direct
from pcdarts_fast.testing.training_pass import training_pass

pytestmark = pytest.mark.skipif(
    _registry.why_not_direct() is not None, reason=str(_registry.why_not_direct())
)


@pytest.mark.parametrize("case", DIRECT)
def test_the_bits_of_the_dispatcher(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, arguments = DIRECT[case]
    module, tensors = make(), [t.clone().requires_grad_() for t in arguments]
    got = training_pass(module, arguments)
    assert is_direct(copy.deepcopy(module)(*tensors))
    monkeypatch.setattr(_registry, "_DIRECT", None)
    wanted = training_pass(module, arguments)
    assert not is_direct(copy.deepcopy(module)(*tensors))
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("case", DIRECT)
def test_running_statistics_move_alike(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, arguments = DIRECT[case]
    direct, general = make(), make()
    for module in (direct, general):
        for _ in range(2):
            module(*arguments)
        monkeypatch.setattr(_registry, "_DIRECT", None)
    for (name, got), wanted in zip(direct.named_buffers(), general.buffers(), strict=True):
        assert torch.equal(got, wanted), name
        assert got._version == wanted._version, name


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
