"""setuptools, asking for torch only where the environment that is installed into has none."""

from __future__ import annotations

from typing import Any

from native import find_torch
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  the hooks that stay as they are


def _torch() -> list[str]:
    return [] if find_torch() else ["torch>=2.13"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_wheel(config_settings) + _torch()


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_editable(config_settings) + _torch()
