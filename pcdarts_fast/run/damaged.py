"""Images that were left out because they cannot be decoded: each is named once."""

from __future__ import annotations

from collections.abc import Iterator

from .events import Notice
from .processes import Processes


class Damaged:
    """`paths` is for `data.load`: a list that it adds to, or None where damage is an error."""

    def __init__(self, skip: bool) -> None:
        self.paths: list[str] | None = [] if skip else None
        self._named: set[str] = set()

    def notices(self, group: Processes) -> Iterator[Notice]:
        """One for every image that was found since the last call, in whichever process."""
        if self.paths is None:
            return
        for path in group.union(self.paths):
            if path not in self._named:
                self._named.add(path)
                yield Notice(f"image {path} is damaged and was left out")
