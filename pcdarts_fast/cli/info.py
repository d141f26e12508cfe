"""`pcdarts info`: what this machine can compute with, and why not with more."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import import_module

from rich.table import Table

from ..run.versions import installed_version
from .console import plain_console
from .parse import parse


@dataclass(frozen=True)
class Info:
    """Prints versions, backends (and why one is missing) and instruction sets."""


CHECK_A_GPU = "pip install -e '.[test]' && pytest -m gpu && pytest benchmarks/test_gpu.py"


def main(args: list[str]) -> int:
    """Runs the command; always 0."""
    parse(Info, args, examples="pcdarts info")
    import torch

    from ..ops._registry import BACKENDS, why_not, why_not_direct

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("pcdarts_fast", installed_version("pcdarts_fast") or "not installed")
    table.add_row(
        "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    table.add_row("torch", f"{torch.__version__}, {torch.get_num_threads()} CPU threads")
    table.add_row("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    for backend in BACKENDS:
        reason = why_not(backend)
        table.add_row(f"backend {backend}", f"not available: {reason}" if reason else "available")
    indirect = why_not_direct()
    table.add_row("calls of cpu", f"by torch's dispatcher: {indirect}" if indirect else "direct")
    table.add_row("to check a GPU", CHECK_A_GPU)
    table.add_row("instruction sets", _instruction_sets())
    plain_console().print(table)
    return 0


def _instruction_sets() -> str:
    """Those of the compiled kernels that this processor has, and the one they use."""
    try:
        native = import_module("pcdarts_fast._native")
    except ImportError:
        return "none: the compiled kernels are missing"
    available = ", ".join(native.available_isas())
    try:
        return f"{available}; in use: {native.active_isa()}"
    except ValueError as error:
        return f"{available}; {error}"
