"""Versions of what is installed."""

from __future__ import annotations

from importlib import metadata


def installed_version(package: str) -> str | None:
    """None for a package that is not installed, such as this one run from a bare checkout."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
