"""What holds the house together: floors, headers in the sdist, one place for each fact."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcdarts_fast import _native

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pcdarts_fast"

# An arrow only points down: a module may import its own floor's package and every floor below.
FLOORS = [
    {"errors"},
    {"files"},
    {"space", "ops"},
    {"nn"},
    {"data", "run"},
    {"search", "train"},
    {"report"},
    {"cli"},
    {"__main__", "__init__"},
]
ROOM_FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FOR_TESTS = "testing"  # imported by tests and benchmarks only; itself above everything


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports, also inside functions."""
    package = ["pcdarts_fast", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_floor():
    assert {room_of(path) for path in source_files()} - {FOR_TESTS} <= set(ROOM_FLOOR)


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "pcdarts_fast" or len(parts) < 2:
            continue
        if not (PACKAGE / parts[1]).is_dir() and not (PACKAGE / f"{parts[1]}.py").exists():
            continue  # a name of pcdarts_fast/__init__.py or a compiled module
        assert own == FOR_TESTS or parts[1] != FOR_TESTS, f"only tests import testing: {name}"
        if own not in (FOR_TESTS, parts[1]):
            assert ROOM_FLOOR[parts[1]] < ROOM_FLOOR[own], f"{own} may not import {name}"


@pytest.mark.parametrize(
    ("room", "forbidden"), [("space", "torch"), ("cli", "torch.nn"), ("report", "torch.nn")]
)
def test_rooms_without_torch(room, forbidden):
    files = [path for path in source_files() if room_of(path) == room]
    used = {name for path in files for name in imports(path)}
    assert files and not {n for n in used if n == forbidden or n.startswith(f"{forbidden}.")}


def test_operators_do_not_import_each_other():
    operators = {path.parent.name for path in (PACKAGE / "ops").glob("*/__init__.py")} - {"_triton"}
    assert len(operators) > 3
    for path in (PACKAGE / "ops").glob("*/*.py"):
        for name in imports(path):
            other = re.match(r"pcdarts_fast\.ops\.(\w+)", name)
            assert not other or other[1] not in operators - {path.parent.name}, f"{path}: {name}"


BINDS = ("bind", "bind_cpu", "bind_cuda", "bind_direct")  # of files that may know torch


def test_includes_point_down():
    """Kernels know common/ and their own folder; only bind files know torch."""
    files = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    assert len(files) > 5
    for path in files:
        folder = path.parent.relative_to(ROOT / "csrc").as_posix()
        for line in path.read_text().splitlines():
            found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)', line)
            if not found:
                continue
            kind, header = found[1], found[2]
            if header.startswith(("torch/", "ATen/", "c10/")):
                assert path.stem in BINDS, f"{path} includes {header}"
            if header in ("common/bind.h", "common/bind_cuda.h"):
                assert path.stem in BINDS, f"{path} includes {header}"
            if kind == '"' and folder != ".":
                assert header.split("/")[0] in ("common", folder), f"{path} includes {header}"
            if path.name == "math.h":
                standard = kind == "<" and header in ("cstdint", "cmath")
                assert standard or header.startswith("common/"), f"{path} includes {header}"


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], check=True, capture_output=True, text=True
    )
    return [name for name in listing.stdout.splitlines() if (ROOT / name).exists()]


def test_sdist_holds_every_tracked_file_and_needs_no_torch(tracked, tmp_path):
    tree, dist = tmp_path / "tree", tmp_path / "dist"
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    program = (
        "import sys; folder = sys.argv[1]; sys.modules['torch'] = None;"
        "sys.path.insert(0, '_build'); import backend;"
        "assert not any('torch' in need for need in backend.get_requires_for_build_sdist());"
        "backend.build_sdist(folder)"
    )
    dist.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(dist)], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (archive,) = dist.iterdir()
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    assert set(tracked) <= packed


def test_install_without_a_compiler_leaves_the_reason(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    reason = (tmp_path / "pcdarts_fast" / "_build_failure.txt").read_text()
    assert reason.startswith("no C++ compiler was found (no-such-compiler)")
    assert reason.strip() in done.stderr


def build_without_nvcc(folder: Path, setting: str) -> subprocess.CompletedProcess[str]:
    """The build's last part, in an environment that has no nvcc."""
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, '_build'); import native;"
        "native._build_part = lambda _, component, *rest: print(component);"
        "native.shutil.which = lambda name, **_: None if 'nvcc' in name else name;"
        "native.build(Path(sys.argv[1]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PCDARTS_CUDA": setting, "CXX": "c++"},
        capture_output=True,
        text=True,
    )


def test_the_cuda_engine_is_left_out_with_its_reason_or_demanded(tmp_path):
    for setting, reason in (("0", "PCDARTS_CUDA=0 left it out"), ("", "no nvcc was found")):
        done = build_without_nvcc(tmp_path, setting)
        assert (done.returncode, done.stdout) == (0, "native\ndirect\n"), done.stderr
        assert (tmp_path / "_cuda_failure.txt").read_text().startswith(reason)
    done = build_without_nvcc(tmp_path, "1")
    assert done.returncode == 1
    assert "BuildFailure: no nvcc was found" in done.stderr.splitlines()[-1]


def test_without_the_library_of_direct_calls_the_build_goes_on(tmp_path):
    program = """
import sys
from pathlib import Path
sys.path.insert(0, "_build")
import native
def part(_, component, *rest):
    print(component)
    if component == "direct":
        raise native.BuildFailure("the C++ build failed")
native._build_part = part
native.build(Path(sys.argv[1]))
"""
    stale = tmp_path / "_direct.cpython-310-x86_64-linux-gnu.so"
    stale.touch()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PCDARTS_CUDA": "0", "CXX": "c++"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "native\ndirect\n"), done.stderr
    assert "calls will go by the dispatcher: the C++ build failed" in done.stderr
    assert not stale.exists()


def test_demanded_and_missing_ends_the_installation(tmp_path):
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CXX": "no-such-compiler", "PCDARTS_CUDA": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "PCDARTS_CUDA=1, but no C++ compiler was found" in done.stderr


def test_one_version(tracked):
    version = importlib.metadata.version("pcdarts_fast")
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{version}"\n' in pyproject
    assert _native.build_info()["version"] == version
    code = [n for n in tracked if n.endswith((".py", ".cpp", ".h", ".txt", ".cmake"))]
    repeated = [n for n in code if f'"{version}"' in (ROOT / n).read_text()]
    assert repeated == []


def test_tolerances_of_operators_are_set_in_one_place(tracked):
    literal = re.compile(r"\b[ra]tol=(?!0\b)[\d.]")
    files = [n for n in tracked if n.endswith(".py") and n.startswith(("tests/ops", "benchmarks"))]
    assert files and [n for n in files if literal.search((ROOT / n).read_text())] == []
