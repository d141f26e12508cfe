"""Where the channels of a partial-channel mixed operation come from and where they go.

Count the channels of cat[mixed, bypass] by q = 0..C-1; the first C/k are the mixed ones. Position q
reads channel `source[q]` of x and is written to channel `destination[q]` of the result. Every
kernel takes these two tables, so that shuffling is an index and never a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..errors import UserError

Sampling = Literal["shuffle", "shift", "random"]
Table = tuple[int, ...]


def check_channels(C: int, k: int) -> None:
    """Raises UserError where C channels have no k-th part."""
    if type(k) is not int:
        raise UserError(f"k: got {k!r}, wanted an int")
    if C < 1 or k < 1 or C % k:
        raise UserError(f"k: got k={k} for C={C} channels, wanted a k >= 1 that divides C")


def check_tables(tables: tuple[Table, Table], C: int) -> None:
    """Raises UserError where kernels would read or write other channels than C, or one twice."""
    for name, table in zip(("source", "destination"), tables, strict=True):
        if sorted(table) != list(range(C)):
            raise UserError(f"tables must hold 0..{C - 1} once each: got {name} {list(table)}")


def channel_tables(
    C: int, k: int, sampling: Sampling = "shuffle", permutation: Sequence[int] | None = None
) -> tuple[Table, Table]:
    """The tables (source, destination) of C channels of which 1/k are mixed.

    shuffle  the first C/k channels are mixed; the result is cat[mixed, bypass] with its k groups
             interleaved (paper section 3.2, as released: a channel shuffle)
    shift    the first C/k channels are mixed; the result is cat[bypass, mixed], so that the next
             operation mixes other channels
    random   the channels permutation[:C/k] are mixed; all channels stay at their places

    Raises:
        UserError: C is no multiple of k, the sampling is unknown, or the permutation is none.
    """
    check_channels(C, k)
    if (permutation is not None) != (sampling == "random"):
        raise UserError(f"a permutation goes with sampling='random' and only with it: {sampling!r}")
    mixed = C // k
    if sampling == "shuffle":
        return tuple(range(C)), tuple(q % mixed * k + q // mixed for q in range(C))
    if sampling == "shift":
        return tuple(range(C)), tuple((q - mixed) % C for q in range(C))
    if sampling == "random" and permutation is not None:
        table = tuple(map(int, permutation))
        if sorted(table) != list(range(C)):
            raise UserError(f"permutation must hold 0..{C - 1} once each: got {list(table)}")
        return table, table
    raise UserError(f"sampling must be 'shuffle', 'shift' or 'random': got {sampling!r}")
