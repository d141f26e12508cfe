"""The command line: options, progress and printing; no mathematics."""

from .main import main

__all__ = ["main"]
