"""Tables what the CUDA kernels take, for GPUs that need not be here.

    python benchmarks/cuda_resources.py                         what the installed library holds
    python benchmarks/cuda_resources.py --check                 only looks for faults
    python benchmarks/cuda_resources.py --write docs/gpu_resources.md     puts the table there

Registers are read from the installed library (TORCH_CUDA_ARCH_LIST said for which GPUs it was
compiled), blocks and shared memory from the launches of cells of the presets, which the simulator
notes instead of running. Exit code 1 where a kernel uses local memory, spilled registers among it,
or one that streams has no 16-byte loads.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from pcdarts_fast.testing.cases import super_net_cell
from pcdarts_fast.testing.sections import put_section

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "pcdarts_fast" / "_cuda.abi3.so"
STREAMING = {  # kernels most of whose bytes go through unchanged: by 16 bytes a thread
    *("node_kernel", "sums_kernel", "state_backward_kernel", "mix_kernel", "mix_backward_kernel"),
    *("normalise_kernel", "conv_sums_kernel"),
}
CELLS = {  # C, k, stride, height and width of the nodes
    "cifar-normal-16": (16, 4, 1, 32),
    "cifar-reduction-32": (32, 4, 2, 16),
    "cifar-normal-64": (64, 4, 1, 8),
    "imagenet-normal-64": (64, 2, 1, 14),
}
BATCH = 64


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one, from the CUDA programming guide's table of compute capabilities."""

    warps: int
    blocks: int
    shared: int  # bytes


GPUS = {
    "sm_80": Multiprocessor(64, 32, 164 * 1024),
    "sm_86": Multiprocessor(48, 16, 100 * 1024),
    "sm_89": Multiprocessor(48, 24, 100 * 1024),
    "sm_90": Multiprocessor(64, 32, 228 * 1024),
    "sm_100": Multiprocessor(64, 32, 228 * 1024),
    "sm_120": Multiprocessor(48, 24, 100 * 1024),
}


@dataclass(frozen=True)
class Usage:
    registers: int  # of a thread
    local: int  # bytes of a thread outside of registers: stack, spills
    shared: int  # bytes of a block, besides what a launch asks for


@dataclass(frozen=True)
class Launch:
    kernel: str
    threads: int
    shared: int  # bytes that the launch asks for


def occupancy(gpu: Multiprocessor, usage: Usage, launch: Launch) -> float:
    """Resident warps of a multiprocessor over the most that it can hold."""

    def up(value: int, to: int) -> int:
        return -(-value // to) * to

    warps = up(launch.threads, 32) // 32
    by_registers = 65536 // up(usage.registers * 32, 256) // 4 * 4 // warps
    by_shared = gpu.shared // up(launch.shared + usage.shared + 1024, 128)  # 1 KiB is CUDA's own
    return min(gpu.blocks, gpu.warps // warps, by_registers, by_shared) * warps / gpu.warps


def short(demangled: str) -> str:
    """`void pcdarts::stage_kernel<4>(pcdarts::Stage)` as `stage_kernel<4>`."""
    name = demangled.replace("(anonymous namespace)::", "").replace("pcdarts::", "")
    return re.sub(r"\(.*", "", name).removeprefix("void ")


def cuobjdump(*arguments: str) -> str:
    """What the toolkit's cuobjdump, else Triton's, says of the library, with demangled names."""
    triton = find_spec("triton")
    beside = Path(triton.origin).parent / "backends/nvidia/bin" if triton and triton.origin else ""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path=str(beside))
    if found is None:
        raise SystemExit("no cuobjdump: install the CUDA toolkit's or Triton")
    command = [found, *arguments, str(LIBRARY)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return subprocess.run(
        ["c++filt"], input=text, check=True, capture_output=True, text=True
    ).stdout


def usages() -> dict[str, dict[str, Usage]]:
    """By GPU and kernel, of everything in the library."""
    found: dict[str, dict[str, Usage]] = {}
    arch = kernel = ""
    for line in cuobjdump("--dump-resource-usage").splitlines():
        if match := re.match(r"arch = (sm_\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (.+):$", line):
            kernel = short(match[1])
        elif "REG:" in line:
            used = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
            usage = Usage(used["REG"], used["STACK"] + used["LOCAL"], used["SHARED"])
            found.setdefault(arch, {})[kernel] = usage
    return found


def kernels_with_wide_loads(arch: str) -> set[str]:
    """Those whose machine code loads 16 bytes of global memory at once."""
    found, kernel = set(), ""
    for line in cuobjdump("-sass", "-arch", arch).splitlines():
        if match := re.match(r"\s*Function : (.+)$", line):
            kernel = short(match[1])
        elif re.search(r"\bLDG\.E(\.\w+)*\.128\b", line):
            found.add(kernel)
    return found


def launches_of(simulator: ctypes.CDLL, names: dict[int, str], cell: str) -> list[Launch]:
    """Of a cell and its preprocessing, forward and backward, every kernel's largest launch."""
    C, k, stride, size = CELLS[cell]
    previous = 4 * C // stride
    module = super_net_cell(previous, C, reduction=stride == 2, backend="cuda", k=k)
    x = [torch.zeros(BATCH, previous, *[size * stride] * 2).requires_grad_() for _ in range(2)]
    alpha, beta = torch.rand(14, 8).requires_grad_(), torch.rand(14).requires_grad_()
    simulator.cusim_restart(2)
    out = module(*x, alpha, beta)
    out.backward(out.detach())
    found: dict[str, Launch] = {}
    for number in range(simulator.cusim_launches()):
        values = (ctypes.c_int64 * 4)()
        simulator.cusim_launch(ctypes.c_int64(number), values)
        place, threads, shared, _ = values
        launch = Launch(names[place], threads, shared)
        known = found.setdefault(launch.kernel, launch)
        if (launch.shared, launch.threads) > (known.shared, known.threads):
            found[launch.kernel] = launch
    return list(found.values())


def symbols(library: str) -> dict[int, str]:
    """Every function of the simulator by its place relative to `cusim_restart`."""
    text = subprocess.run(
        ["nm", "-C", "--defined-only", library], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split(maxsplit=2) for line in text.splitlines()]
    places = {name: int(place, 16) for place, _, name in rows}
    origin = places["cusim_restart"]
    return {int(place, 16) - origin: short(name) for place, _, name in rows}


def table(used: dict[str, dict[str, Usage]]) -> str:
    library = subprocess.run(
        [sys.executable, ROOT / "_build" / "simulator.py"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    torch.ops.load_library(library)
    simulator = ctypes.CDLL(library)
    simulator.cusim_launches.restype = ctypes.c_int64
    names = symbols(library)
    lines = [
        "| Cell | Kernel | Threads | Shared, KiB | " + " | ".join(used) + " |",
        "| --- | --- | ---: | ---: |" + " ---: |" * len(used),
    ]
    for cell in CELLS:
        for launch in launches_of(simulator, names, cell):
            row = [cell, launch.kernel, str(launch.threads), f"{launch.shared / 1024:.1f}"]
            for arch, kernels in used.items():
                usage = kernels[launch.kernel]
                share = occupancy(GPUS[arch], usage, launch)
                row.append(f"{usage.registers}, {share:.0%}")
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def faults(used: dict[str, dict[str, Usage]]) -> list[str]:
    """What no kernel may do."""
    found = [
        f"{arch} {kernel}: {usage.local} bytes of local memory a thread"
        for arch, kernels in used.items()
        for kernel, usage in kernels.items()
        if usage.local
    ]
    for arch, kernels in used.items():
        wide = kernels_with_wide_loads(arch)
        found += [
            f"{arch} {kernel}: no 16-byte loads"
            for kernel in kernels
            if kernel.partition("<")[0] in STREAMING and kernel not in wide
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not LIBRARY.exists():
        raise SystemExit(f"{LIBRARY.name} was not built: install nvcc, then pcdarts_fast again")
    used = usages()
    text = "" if arguments.check else table(used)
    print(text, end="\n" if text else "")
    if arguments.write and text:
        put_section(arguments.write, "cuda resources", text)
    wrong = faults(used)
    print(f"{', '.join(used)}: {sum(map(len, used.values()))} kernels", file=sys.stderr)
    print(*wrong, sep="\n", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
