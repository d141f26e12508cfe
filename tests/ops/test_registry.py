"""Choosing a backend: what is available, why not, and the instruction set."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from pcdarts_fast import _native
from pcdarts_fast.ops import BACKENDS, _registry, resolve, why_not


@pytest.fixture
def fresh_caches():
    caches = (_registry._native_state, _registry._cuda_library, _registry._resolve)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_auto_takes_the_compiled_kernels():
    assert why_not("cpu") is None
    assert resolve("auto", "partial_mix", "cpu") == "cpu"


def test_auto_takes_the_reference_where_nothing_is_better():
    assert resolve("auto", "partial_mix", "xpu") == "reference"
    assert resolve("auto", "an_operator_without_kernels", "cpu") == "reference"


def test_a_named_backend_is_taken_or_refused_with_every_reason():
    assert resolve("reference", "partial_mix", "cpu") == "reference"
    with pytest.raises(ValueError, match="'cpu' cannot run partial_mix on xpu tensors") as error:
        resolve("cpu", "partial_mix", "xpu")
    assert all(f"{backend}: " in str(error.value) for backend in BACKENDS)
    with pytest.raises(ValueError, match="'opencl' cannot run"):
        resolve("opencl", "partial_mix", "cpu")


def test_a_backend_that_lacks_one_kernel_of_an_operator_lacks_the_operator(
    monkeypatch, fresh_caches
):
    has_kernel = _registry._has_kernel

    def without_backward(name: str, backend: str, device: str) -> bool:
        return (name, backend) != ("partial_mix_bwd", "cpu") and has_kernel(name, backend, device)

    monkeypatch.setattr(_registry, "_has_kernel", without_backward)
    with pytest.raises(ValueError, match=r"cpu: has no partial_mix for cpu tensors"):
        resolve("cpu", "partial_mix", "cpu")


def test_failed_build_falls_back_and_says_why(tmp_path, monkeypatch, fresh_caches):
    monkeypatch.setattr(_registry, "_PACKAGE", tmp_path)
    assert "not installed" in str(why_not("cpu"))
    _registry._native_state.cache_clear()
    (tmp_path / "_build_failure.txt").write_text("no C++ compiler was found\n")
    assert why_not("cpu") == "no C++ compiler was found"
    assert resolve("auto", "partial_mix", "cpu") == "reference"
    with pytest.raises(ValueError, match=r"cpu: no C\+\+ compiler was found"):
        resolve("cpu", "partial_mix", "cpu")


def test_unloadable_library_names_torch(tmp_path, monkeypatch, fresh_caches):
    monkeypatch.setattr(_registry, "_PACKAGE", tmp_path)
    (tmp_path / "_C.abi3.so").write_bytes(b"not a library")
    assert "kernels do not load under Python" in str(why_not("cpu"))


def test_cuda_says_what_is_missing(tmp_path, monkeypatch, fresh_caches):
    monkeypatch.setattr(_registry, "_PACKAGE", tmp_path)
    assert "was not built: install nvcc" in str(why_not("cuda"))
    for content, reason in ((b"not a library", "does not load under torch"), (None, "no nvcc was")):
        _registry._cuda_library.cache_clear()
        library, failure = tmp_path / "_cuda.abi3.so", tmp_path / "_cuda_failure.txt"
        failure.write_text("no nvcc was found\n")
        library.unlink(missing_ok=True)
        if content:
            library.write_bytes(content)
        assert reason in str(why_not("cuda"))


def test_cuda_needs_a_torch_with_cuda_and_a_gpu(monkeypatch):
    monkeypatch.setattr(_registry, "_cuda_library", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert why_not("cuda") == "torch sees no CUDA device"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "was built without CUDA" in str(why_not("cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton has a GPU here")
def test_triton_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(_registry, "INTERPRETED", False)
    if importlib.util.find_spec("triton"):
        assert "torch sees no GPU" in str(why_not("triton"))
        assert "TRITON_INTERPRET=1" in str(why_not("triton"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install triton" in str(why_not("triton"))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("op", ["mixed_cell", "relu_conv_bn", "partial_mix"])
def test_triton_serves_the_gpus_that_the_cuda_engine_does_not(op, monkeypatch, fresh_caches):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_registry, "_why_no_cuda", lambda: "torch 2 was built without CUDA")
    assert resolve("auto", op, "cuda") == "triton"


CHECK = """
import torch
from pcdarts_fast import _native
from pcdarts_fast.ops import partial_mix
from pcdarts_fast.testing.cases import CASES
from pcdarts_fast.testing.tolerances import tolerance
print(_native.active_isa())
for case in CASES["partial_mix"]:
    for dtype in () if case.bench else (torch.float32, torch.float64, torch.bfloat16):
        arguments = case.make(dtype)
        torch.testing.assert_close(
            partial_mix(**arguments, backend="cpu"),
            partial_mix(**arguments, backend="reference"),
            **tolerance(dtype),
        )
"""


def run_with_isa(isa: str, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PCDARTS_ISA": isa},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("isa", _native.available_isas())
def test_forced_instruction_set(isa):
    done = run_with_isa(isa, CHECK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [isa]


def test_unknown_instruction_set_is_one_error():
    program = "from pcdarts_fast.ops import resolve; resolve('auto', 'partial_mix', 'cpu')"
    done = run_with_isa("mmx", program)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "pcdarts_fast.errors.UserError: PCDARTS_ISA=mmx is no instruction set that this machine"
    )
