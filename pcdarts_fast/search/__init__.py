"""The search: alpha and beta learn on one half of the images, the weights on the other."""

from ..run.events import EpochDone, Notice, Progress, Stopped
from .events import Event, Finished, Started
from .loop import search

__all__ = ["EpochDone", "Event", "Finished", "Notice", "Progress", "Started", "Stopped", "search"]
