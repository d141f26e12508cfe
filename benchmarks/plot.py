"""Draws the ratios of a benchmark's JSON as bars:

pytest benchmarks/ --benchmark-only --benchmark-json=results.json
python benchmarks/plot.py results.json docs/img/ratios.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def ratios(results: dict) -> dict[str, float]:
    """Naive time over fused time of every forward+backward, by the name of its row."""
    rows = [row for row in results["benchmarks"] if "ratio" in row["extra_info"]]
    both = [row for row in rows if row["params"]["direction"] == "forward+backward"]
    return {row["group"]: row["extra_info"]["ratio"] for row in both}


def draw(results: dict, path: Path) -> None:
    rows = ratios(results)
    if not rows:
        raise SystemExit("no row with a ratio: run the benchmarks without --benchmark-disable")
    plt.switch_backend("svg")
    plt.rcParams["svg.hashsalt"] = "pcdarts_fast"  # the same file from the same numbers
    fig, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * len(rows)), layout="constrained")
    bars = axes.barh(list(rows), list(rows.values()), color="#3b6fb6")
    axes.bar_label(bars, [f"{ratio:.1f}x" for ratio in rows.values()], padding=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("times faster than naive, forward+backward")
    cpu = results["machine_info"]["cpu"]
    axes.set_title(f"{cpu.get('brand_raw', 'CPU')}, {results['datetime'][:10]}", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
