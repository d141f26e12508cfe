"""Everything static is in pyproject.toml, everything compiled in CMakeLists.txt."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent / "_build"))
from native import FAILURE_FILE, BuildFailure, build


class NativeBuild(build_ext):
    def run(self) -> None:
        """A build that fails leaves its reason, not a broken install: there is a reference."""
        root = Path(__file__).resolve().parent if self.inplace else Path(self.build_lib).resolve()
        package_dir = root / "pcdarts_fast"
        package_dir.mkdir(parents=True, exist_ok=True)
        reason = package_dir / FAILURE_FILE
        reason.unlink(missing_ok=True)
        try:
            build(package_dir)
        except BuildFailure as failure:
            if os.environ.get("PCDARTS_CUDA") == "1":  # what was asked for is not left out
                raise SystemExit(f"pcdarts_fast: PCDARTS_CUDA=1, but {failure}") from None
            for stale in package_dir.glob("_[Ccdn]*.so"):
                stale.unlink()
            reason.write_text(f"{failure}\n")
            print(f"pcdarts_fast: {failure}. The reference backend will be used.", file=sys.stderr)


setup(
    ext_modules=[Extension(f"pcdarts_fast.{n}", [], optional=True) for n in ("_C", "_native")],
    cmdclass={"build_ext": NativeBuild},
)
