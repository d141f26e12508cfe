"""Compiles the Triton kernels for GPUs that need not be here, and tables what they take.

    python benchmarks/triton_resources.py                              all cells, all GPUs
    python benchmarks/triton_resources.py --arch gfx942 --cells cifar-normal-16
    python benchmarks/triton_resources.py --write docs/gpu_resources.md   puts the table there

The operators run on tensors without data, and instead of being launched every kernel is compiled
for the arguments that it would be launched with. Exit code 1 where a kernel spills registers.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from pcdarts_fast.ops.channels import channel_tables
from pcdarts_fast.ops.mixed_cell.schema import KINDS
from pcdarts_fast.space import cell_edges
from pcdarts_fast.testing.sections import put_section

BATCH, SIZE = 1024, 16  # of the nodes; enough for the largest blocks of sums over tiles
EPS = 1e-5


@dataclass(frozen=True)
class Cell:
    C: int
    k: int
    stride: int
    dtype: torch.dtype = torch.float32
    store: bool = False
    nodes: int = 4


CELLS = {
    "cifar-normal-16": Cell(16, 4, 1),
    "cifar-reduction-32": Cell(32, 4, 2),
    "cifar-normal-32": Cell(32, 4, 1),
    "cifar-reduction-64": Cell(64, 4, 2),
    "cifar-normal-64": Cell(64, 4, 1),
    "imagenet-normal-16": Cell(16, 2, 1),
    "imagenet-reduction-32": Cell(32, 2, 2),
    "imagenet-normal-32": Cell(32, 2, 1),
    "imagenet-reduction-64": Cell(64, 2, 2),
    "imagenet-normal-64": Cell(64, 2, 1),
    "cifar-normal-16-bfloat16": Cell(16, 4, 1, dtype=torch.bfloat16),
    "cifar-normal-16-float16": Cell(16, 4, 1, dtype=torch.float16),
    "cifar-normal-16-store": Cell(16, 4, 1, store=True),
    "digits-normal-16": Cell(16, 4, 1, nodes=3),
    "digits-reduction-32": Cell(32, 4, 2, nodes=3),
    "digits-reduction-64": Cell(64, 4, 2, nodes=3),
}


@dataclass(frozen=True)
class Row:
    arch: str
    cell: str
    kernel: str
    warps: int
    registers: int
    shared: int  # bytes
    spills: int  # bytes


@dataclass(frozen=True)
class Absent:
    """Stands for the driver of a GPU that is not here, as far as compiling asks."""

    target: GPUTarget

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> str:
        return str(self.target)  # kernels are kept by device

    def get_current_stream(self, device: Any) -> int:
        return 0


def target_of(arch: str) -> GPUTarget:
    if arch.startswith("sm_"):
        return GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
    return GPUTarget("hip", arch, 64)


def resources(compiled: Any, arch: str) -> tuple[int, int]:
    """Registers of a thread, and bytes that it keeps in memory.

    AMD's scalar registers are spilled to lanes of vector registers, which does not count.
    """
    if not arch.startswith("sm_"):
        text = compiled.asm["amdgcn"]
        found = {key: int(value) for key, value in re.findall(r"\.(\w+):\s+(\d+)", text)}
        return found["vgpr_count"], 4 * found["vgpr_spill_count"]
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [tool, "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", said))
    return int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"])


def compiled_kernels(arch: str, name: str) -> Iterator[Row]:
    """Every kernel that a cell with its preprocessing, a stem and a classifier launch, once."""
    rows: dict[int, Row] = {}

    def compile_only(
        kernel: Any,
        grid: tuple[int, ...],
        *arguments: Any,
        P: int,
        warps: int = 0,
        **constants: Any,
    ) -> None:
        if 0 in grid:
            return
        warps = warps or max(P // 32, 1)
        options = {"num_stages": 1} | ({"maxnreg": 255} if arch.startswith("sm_") else {})
        compiled = kernel.warmup(
            *arguments, grid=grid, P=P, num_warps=warps, **options, **constants
        )
        if id(compiled) not in rows:
            registers, spills = resources(compiled, arch)
            shared = compiled.metadata.shared
            function = kernel.fn.__name__.removesuffix("_kernel")
            rows[id(compiled)] = Row(arch, name, function, warps, registers, shared, spills)

    driver.set_active(Absent(target_of(arch)))
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("pcdarts_fast.ops") and hasattr(
            module, "launch"
        ):
            module.launch = compile_only
    run_cell(CELLS[name])
    run_products(CELLS[name])
    yield from rows.values()


def run_cell(cell: Cell) -> None:
    """What a search runs of a cell: eval mode, weight steps, architecture steps."""
    mixed = operator("mixed_cell")
    C, size = cell.C, SIZE * cell.stride
    inputs = [empty(BATCH, C, size, size, dtype=cell.dtype) for _ in range(2)]
    plan = importlib.import_module("pcdarts_fast.ops.mixed_cell._triton.plan")
    primitives = range(len(KINDS))
    total = plan.make_graph(2, cell.nodes, primitives, C, cell.k, cell.stride, EPS).all_weights
    edges = len(cell_edges(cell.nodes))
    arch, weights = (empty(edges, len(KINDS)), empty(edges)), [empty(total)]
    graph = (primitives, cell.nodes, cell.k, cell.stride, *channel_tables(C, cell.k), EPS)
    out, *norms, z = mixed.forward(inputs, *arch, weights, None, None, *graph, cell.store)
    mixed.forward(inputs, *arch, weights, *norms, *graph, False)
    for need_weights in (True, False):
        needs = [1, 1], need_weights, not need_weights, not need_weights
        mixed.backward(out, inputs, *arch, weights, *norms, out, z, *graph, True, *needs)


def run_products(cell: Cell) -> None:
    """The same of a cell's preprocessing, of the CIFAR stem and of the classifier."""
    conv = operator("relu_conv_bn")
    C, size, stride = cell.C, SIZE * cell.stride, cell.stride
    for x, outputs, halves, kind, gradients in (
        ((4 * C, size, size), C // stride, stride, (False, False), [(True, True), (True, False)]),
        ((27, size, size), 3 * C, 1, (True, False), [(False, True)]),
        ((4 * C, 1, 1), 10, 1, (True, True), [(True, True), (True, False)]),
    ):
        states, matrices = empty(BATCH, *x, dtype=cell.dtype), [empty(outputs, x[0], 1, 1)] * halves
        out, *norms = conv.forward(states, matrices, None, None, halves, EPS, *kind)
        conv.forward(states, matrices, *norms, halves, EPS, *kind)
        for needs in gradients:
            tail = norms[1], halves, EPS, True, *needs, *kind
            conv.backward(out, states, matrices, out, *tail)


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def operator(name: str) -> Any:
    return importlib.import_module(f"pcdarts_fast.ops.{name}._triton")


def table(rows: list[Row], archs: list[str]) -> str:
    """Of each cell and kernel the most of its variants: registers, shared KiB on each target."""
    head = "| Cell | Kernel | " + " | ".join(archs) + " |"
    lines = [head, "| --- | --- |" + " ---: |" * len(archs)]
    for cell, kernel in dict.fromkeys((row.cell, row.kernel) for row in rows):
        cells = []
        for arch in archs:
            own = [r for r in rows if (r.cell, r.kernel, r.arch) == (cell, kernel, arch)]
            registers, shared = max(r.registers for r in own), max(r.shared for r in own)
            spills = max(r.spills for r in own)
            cells.append(
                f"{registers}, {shared / 1024:.1f}" + (f", spills {spills} B" if spills else "")
            )
        lines.append(f"| {cell} | {kernel} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["sm_80", "sm_90", "sm_100", "gfx942"])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    for name in ("mixed_cell", "relu_conv_bn"):
        operator(name)
    rows = []
    for arch in arguments.arch:
        for cell in arguments.cells:
            rows += compiled_kernels(arch, cell)
            spilled = sum(row.spills for row in rows)
            print(f"{arch} {cell}: {len(rows)} kernels, {spilled} bytes spilled", file=sys.stderr)
    text = table(rows, arguments.arch)
    print(text)
    if arguments.write:
        put_section(arguments.write, "resources", text)
    for row in rows:
        if row.spills:
            print(f"spills: {row}", file=sys.stderr)
    return int(any(row.spills for row in rows))


if __name__ == "__main__":
    sys.exit(main())
