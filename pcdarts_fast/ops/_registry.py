"""A backend is a torch.library namespace; an operator has one schema, defined in every namespace.

`pcdarts_cpu::partial_mix_fwd` and `pcdarts_reference::partial_mix_fwd` are the same operator twice:
profiler traces name the backend, opcheck runs on each, and choosing one is an attribute look-up.
An operator `op` consists of kernels named `op_...` (`partial_mix_fwd`, `partial_mix_bwd`). It may
have none in the reference namespace: its reference is then the eager module one floor up.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from ..errors import UserError

BACKENDS = ("cpu", "cuda", "triton", "reference")  # for tensors of any one device, best first
_LIBRARIES = {name: torch.library.Library(f"pcdarts_{name}", "DEF") for name in BACKENDS}
_KERNELS: dict[str, dict[str, Any]] = {}  # by name and backend
_PACKAGE = Path(__file__).parents[1]
_CUDA = "_cuda.abi3.so"
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
"""Whether Triton's interpreter runs the triton backend, on tensors of the CPU."""
_F = TypeVar("_F", bound=Callable[..., Any])
_constant_result = cast(Callable[[_F], _F], torch.compiler.assume_constant_result)


def define(schema: str, *, fake: Callable[..., Any]) -> None:
    """Defines a kernel in every namespace: `name(arguments) -> results`, and its fake."""
    name = schema.partition("(")[0]
    _KERNELS[name] = {}
    for backend, library in _LIBRARIES.items():
        library.define(schema)
        torch.library.register_fake(f"pcdarts_{backend}::{name}", fake, lib=library)
        namespace = getattr(torch.ops, f"pcdarts_{backend}")
        _KERNELS[name][backend] = getattr(namespace, name).default


def implements(name: str, backend: str, *devices: str) -> Callable[[_F], _F]:
    """Decorates a backend's kernel in Python; without devices it serves every device."""

    def register(kernel: _F) -> _F:
        for key in [device.upper() for device in devices] or ["CompositeExplicitAutograd"]:
            _LIBRARIES[backend].impl(name, kernel, key)
        return kernel

    return register


def implements_in_triton(package: str, **kernels: str) -> None:
    """Registers functions of `package._triton` as kernels of the triton backend, by kernel name.

    Triton is imported at the first call. In its interpreter the kernels serve the CPU too.
    """
    devices = ("cuda", "cpu") if INTERPRETED else ("cuda",)
    for name, function in kernels.items():
        implements(name, "triton", *devices)(
            _imported_at_first_call(f"{package}._triton", function)
        )


def _imported_at_first_call(module: str, function: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        run = getattr(importlib.import_module(module), function)
        flat = (t for a in arguments for t in (a if isinstance(a, list) else [a]))
        tensor = next(t for t in flat if isinstance(t, torch.Tensor))
        if not tensor.is_cuda:
            return run(*arguments)
        with torch.cuda.device(tensor.device):  # kernels run on the current one
            return run(*arguments)

    return call


def kernel(name: str, backend: str) -> Any:
    """The callable `pcdarts_<backend>::<name>`."""
    return _KERNELS[name][backend]


def direct(backend: str) -> Any | None:
    """The library of fused modules in training, past torch's dispatcher (csrc/bind_direct.cpp).

    None where `backend` is another engine's, where torch.compile traces, and where the library was
    built with another torch than runs. Its functions return None, and do nothing, for calls that
    they leave to the dispatcher.
    """
    if torch.compiler.is_compiling() or backend not in ("auto", "cpu"):
        return None
    return _DIRECT


def device_type(x: torch.Tensor) -> str:
    """Of the tensor's device, which with cold caches spells it in 20 us (2-core EPYC)."""
    return "cpu" if x.is_cpu else x.device.type


@_constant_result
def resolve(backend: str, op: str, device_type: str) -> str:
    """The backend that runs `op` on tensors of `device_type`; cached, so that every call may ask.

    `auto` takes the best one that is available; a name is only checked.

    Raises:
        UserError: the named backend (or PCDARTS_ISA) is not available; names every other one.
    """
    return _resolve(backend, op, device_type)


@functools.cache
def _resolve(backend: str, op: str, device_type: str) -> str:
    _, misused = _native_state()
    if misused and backend in ("auto", "cpu") and device_type == "cpu":
        raise UserError(misused)  # what the user asked for is not silently replaced
    if backend == "auto":  # one after another: asking for a GPU takes some of its memory
        return next(name for name in BACKENDS if _why_not(name, op, device_type) is None)
    if backend in BACKENDS and _why_not(backend, op, device_type) is None:
        return backend
    reasons = {name: _why_not(name, op, device_type) for name in BACKENDS}
    listing = "; ".join(f"{name}: {reason or 'available'}" for name, reason in reasons.items())
    raise UserError(f"backend {backend!r} cannot run {op} on {device_type} tensors ({listing})")


def why_not(backend: str) -> str | None:
    """None where the backend can be used on this machine, else one sentence: why, what to do."""
    if backend == "cpu":
        missing, misused = _native_state()
        return missing or misused
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed: run pip install triton"
        if INTERPRETED or torch.cuda.is_available():
            return None
        return (
            "torch sees no GPU (TRITON_INTERPRET=1 runs the kernels in Triton's interpreter, "
            "on the CPU and slowly: for tests)"
        )
    return _why_no_cuda() if backend == "cuda" else None


def _why_not(backend: str, op: str, device_type: str) -> str | None:
    kernels = [name for name in _KERNELS if name.startswith(f"{op}_")]
    has = bool(kernels) and all(_has_kernel(name, backend, device_type) for name in kernels)
    if has and (backend, device_type) == ("cuda", "cpu"):
        return None  # its kernels as tests run them: compiled for the CPU
    reason = why_not(backend)
    if reason or has or backend == "reference":
        return reason
    return f"has no {op} for {device_type} tensors"


def _has_kernel(name: str, backend: str, device_type: str) -> bool:
    key = torch._C._dispatch_key_for_device(device_type)
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return bool(has(f"pcdarts_{backend}::{name}", key))


@functools.cache
def _native_state() -> tuple[str | None, str | None]:
    """Why the compiled kernels are missing, and why the user's PCDARTS_ISA cannot be obeyed."""
    failure = _PACKAGE / "_build_failure.txt"
    library = _PACKAGE / "_C.abi3.so"
    if not library.exists():
        if failure.exists():
            return failure.read_text().strip(), None
        return "pcdarts_fast is not installed (no compiled kernels): run pip install -e .", None
    try:
        native = importlib.import_module("pcdarts_fast._native")
        torch.ops.load_library(library)
    except (ImportError, OSError) as error:
        running = f"Python {platform.python_version()} and torch {torch.__version__}"
        return f"the compiled kernels do not load under {running}: {error}; install again", None
    try:
        native.active_isa()
    except ValueError as error:
        return None, str(error)
    return None, None


@functools.cache
def why_not_direct() -> str | None:
    """None where there is the library of `direct`, else one sentence: why, what to do."""
    missing, misused = _native_state()
    if missing or misused:
        return missing or misused
    built_with = importlib.import_module("pcdarts_fast._native").build_info()["torch"]
    if built_with != torch.__version__:  # it has no stable ABI
        return f"built with torch {built_with}, and {torch.__version__} runs; install again"
    try:
        importlib.import_module("pcdarts_fast._direct")
    except ImportError as error:
        return f"the library does not load: {error}; install again"
    return None


def _why_no_cuda() -> str | None:
    reason = _cuda_library()
    if reason:
        return reason
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    probe = ctypes.CDLL(str(_PACKAGE / _CUDA)).pcdarts_cuda_trouble
    probe.restype = ctypes.c_char_p
    trouble = probe()  # such as a GPU for which the library holds no code
    if trouble is None:
        return None
    name = torch.cuda.get_device_name()
    return f"the CUDA engine cannot run on {name}: {trouble.decode()} (see TORCH_CUDA_ARCH_LIST)"


@functools.cache
def _cuda_library() -> str | None:
    """Loads the CUDA engine, which needs no GPU; why that cannot be done."""
    library, failure = _PACKAGE / _CUDA, _PACKAGE / "_cuda_failure.txt"
    if not library.exists():
        if failure.exists():
            return failure.read_text().strip()
        return "the CUDA engine was not built: install nvcc, then pcdarts_fast again"
    try:
        torch.ops.load_library(library)
    except OSError as error:
        return f"the CUDA engine does not load under torch {torch.__version__}: {error}"
    return None


_native_state()
_cuda_library()
_DIRECT = None if why_not_direct() else importlib.import_module("pcdarts_fast._direct")
