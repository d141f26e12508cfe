"""What a step of the super-net keeps: saved activations, and the peak of a process.

The second half of this file is the program that one process runs to measure its own peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcdarts_fast.nn.footprint import saved_bytes
from pcdarts_fast.nn.search_network import SearchNetwork

POLICIES = {
    "naive": ("reference", "recompute"),
    "recompute": ("cpu", "recompute"),
    "store": ("cpu", "store"),
}
B, SIZE = 128, 32
STATUS = Path("/proc/self/status")


def super_net(policy: str) -> SearchNetwork:
    backend, memory = POLICIES[policy]
    torch.manual_seed(0)
    return SearchNetwork(16, 10, 8, backend=backend, memory=memory)


def saved_a_sample(policy: str) -> float:
    """Bytes that autograd keeps between forward and backward, parameters not counted."""
    net, x = super_net(policy), torch.randn(4, 3, SIZE, SIZE)
    return saved_bytes(lambda: net(x), exclude=[*net.parameters(), *net.buffers()]) / x.shape[0]


def added_peak(policy: str) -> float:
    """Bytes of resident memory that a step adds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, policy], check=True, capture_output=True, text=True
    )
    return float(json.loads(done.stdout))


@pytest.mark.skipif(not STATUS.exists(), reason="resident memory is read from /proc")
def test_memory(benchmark, tabulate) -> None:
    saved = {policy: saved_a_sample(policy) for policy in POLICIES}
    peak = benchmark.pedantic(lambda: {p: added_peak(p) for p in POLICIES}, rounds=1)
    for measured in (saved, peak):
        assert measured["recompute"] < measured["store"] < measured["naive"]
    for policy in POLICIES:
        tabulate(
            f"memory of a super-net step, {SIZE}x{SIZE}, C=16, 8 layers",
            policy,
            saved_MiB_a_sample=f"{saved[policy] / 2**20:.2f}",
            of_naive=f"1/{saved['naive'] / saved[policy]:.1f}",
            **{
                f"peak_added_by_B={B},_MiB": f"{peak[policy] / 2**20:.0f}",
                "of_naive ": f"1/{peak['naive'] / peak[policy]:.1f}",
            },
        )
    benchmark.group = "memory"
    benchmark.extra_info.update(saved_bytes_a_sample=saved, added_peak_bytes=peak)


def resident(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main(policy: str) -> None:
    net = super_net(policy)

    def step(batch: int) -> None:
        net(torch.randn(batch, 3, SIZE, SIZE)).sum().backward()

    step(2)  # gradients, threads, libraries
    before = resident("VmRSS:")
    step(B)
    print(json.dumps(resident("VmHWM:") - before))


if __name__ == "__main__":
    main(sys.argv[1])
