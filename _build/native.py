"""Drives CMake. torch is only a folder of headers and one library here: it is never imported."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAILURE_FILE = "_build_failure.txt"  # beside the libraries; read by pcdarts_fast/ops/_registry.py
CUDA_FAILURE_FILE = "_cuda_failure.txt"  # the same of the CUDA engine, without which all else works


class BuildFailure(Exception):
    """One sentence: why there are no compiled kernels, and what to do."""


def find_torch() -> Path | None:
    """The torch folder of the environment that is installed into, or None."""
    candidates = (
        [Path(os.environ["PCDARTS_TORCH_DIR"])] if "PCDARTS_TORCH_DIR" in os.environ else []
    )
    spec = importlib.util.find_spec("torch")
    if spec and spec.origin:
        candidates.append(Path(spec.origin).parent)
    # pip's build isolation hides site-packages from sys.path, but sys.prefix stays the target's
    candidates += [Path(sysconfig.get_path(key)) / "torch" for key in ("platlib", "purelib")]
    return next(
        (c for c in candidates if (c / "include/torch/csrc/stable/library.h").exists()), None
    )


def find_nvcc() -> str:
    """The CUDA compiler, as the environment wants it; raises BuildFailure where there is none."""
    if os.environ.get("PCDARTS_CUDA") == "0":
        raise BuildFailure("PCDARTS_CUDA=0 left it out when pcdarts_fast was installed")
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    for candidate in (os.environ.get("CUDACXX"), f"{home}/bin/nvcc", "nvcc"):
        if candidate and (nvcc := shutil.which(candidate)):
            return nvcc
    raise BuildFailure(
        f"no nvcc was found (CUDACXX, {home}/bin, PATH) when pcdarts_fast was installed; install "
        "the CUDA toolkit and install pcdarts_fast again"
    )


def build(package_dir: Path) -> None:
    """Compiles and puts the libraries into `package_dir`; raises BuildFailure.

    The CUDA engine is left out where it cannot be built, its reason in CUDA_FAILURE_FILE, unless
    PCDARTS_CUDA=1 demands it.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None or shutil.which(compiler.split()[0]) is None:
        raise BuildFailure(
            f"no C++ compiler was found ({compiler or 'c++, g++, clang++'}) when pcdarts_fast was "
            "installed; install one (Debian: apt-get install g++) and install pcdarts_fast again"
        )
    torch_dir = find_torch()
    if torch_dir is None:
        raise BuildFailure(
            "no torch was found to build against; install torch, or set PCDARTS_TORCH_DIR to its "
            "folder, and install pcdarts_fast again"
        )
    _build_part("native", "native", ["_C", "_native"], torch_dir, [], package_dir)
    try:
        _build_part("native", "direct", ["_direct"], torch_dir, [], package_dir)
    except BuildFailure as failure:  # of a torch whose C++ interface is another
        for stale in package_dir.glob("_direct*.so"):
            stale.unlink()
        print(f"pcdarts_fast: calls will go by the dispatcher: {failure}", file=sys.stderr)
    reason = package_dir / CUDA_FAILURE_FILE
    reason.unlink(missing_ok=True)
    try:
        options = [f"-DPCDARTS_NVCC={find_nvcc()}"]
        _build_part("cuda", "cuda", ["_cuda"], torch_dir, options, package_dir)
    except BuildFailure as failure:
        if os.environ.get("PCDARTS_CUDA") == "1":
            raise
        for stale in package_dir.glob("_cuda*.so"):
            stale.unlink()
        reason.write_text(f"{failure}\n")
        print(f"pcdarts_fast: there will be no CUDA engine: {failure}", file=sys.stderr)


def configure_command(folder: Path, torch_dir: Path) -> list[str]:
    """CMake's, for a build with torch in `folder`."""
    import pybind11  # a build requirement, absent where only find_torch() is wanted

    return [
        *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "-DBUILD_TESTING=OFF"),
        f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}",
        f"-DPCDARTS_TORCH_DIR={torch_dir}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
    ]


def _build_part(
    name: str,
    component: str,
    targets: list[str],
    torch_dir: Path,
    options: list[str],
    package_dir: Path,
) -> None:
    """Builds in the folder of `name`, and installs CMake's `component`."""
    folder = ROOT / "build" / f"{name}-{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    configure = [*configure_command(folder, torch_dir), *options]
    try:
        _run(configure)
    except BuildFailure:
        _run([*configure, "--fresh"])  # a cache from another place or compiler
    _run(["cmake", "--build", str(folder), "--target", *targets])
    staged = folder / f"installed-{component}"
    _run(["cmake", "--install", str(folder), "--prefix", str(staged), "--component", component])
    for library in staged.glob("*.so"):  # a running process keeps the file that it has mapped
        beside = package_dir / f".{library.name}"
        shutil.copy2(library, beside)
        os.replace(beside, package_dir / library.name)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise BuildFailure(f"{command[0]} was not found when pcdarts_fast was installed") from None
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        errors = [line.strip() for line in done.stdout.splitlines() if "error" in line.lower()]
        raise BuildFailure(
            f"the C++ build failed when pcdarts_fast was installed ({' '.join(command[:2])}: "
            f"{errors[0] if errors else f'exit code {done.returncode}'}); "
            "run pip install -v on it again to read the whole log"
        )
