"""How PyTorch's threads wait for work on a CPU."""

from __future__ import annotations

import os

SPINS = 1000
"""Some 15 us on Zen 5. Shorter than it takes to wake a thread of a virtual machine, and 300 times
shorter than what PyTorch's threads do on their own."""


def wait_briefly() -> None:
    """Waiting threads spin for `SPINS` rounds, then sleep, unless the environment says otherwise.

    One search alone does not have to wake its threads all the time then, and two on the same cores
    are together no slower than one after the other (docs/performance.md). To be called before torch
    is imported; GNU's OpenMP library looks at it, which PyTorch has on Linux.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT=str(SPINS))
