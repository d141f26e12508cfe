"""What K and edge normalization do to accuracy, memory and time.

    python experiments/ablation.py

Digits, three seeds of every setting; the networks of all cells found are trained on one budget.
Time and memory come from a last part of three minutes in the super-net of the paper, since the
first part may be interrupted or share the machine. To do that part alone again on an idle machine,
delete its folders, runs/results/ablation/time-*, and run the script again: it repeats nothing else.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import (
    Result,
    cells,
    compare,
    environment,
    main,
    noise,
    percent,
    rows,
    search_all,
    search_once,
    searched,
    settings,
)

from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.run.presets import search_config

SEEDS = range(3)
SETTINGS: dict[str, dict[str, Any]] = {
    f"k{k}-{'beta' if beta else 'plain'}": {"k": k, "edge_normalization": beta}
    for k in (1, 2, 4, 8)
    for beta in (True, False)
}
SEARCH = replace(search_config("digits"), arch_learning_rate=2e-2)
TRAINING = (
    *("--preset", "digits", "--init-channels", 4, "--epochs", 8, "--auxiliary-weight", 0),
    *("--seeds", "0..1"),
)
TIME = replace(
    search_config("fashion-mnist"),
    epochs=3,
    frozen_epochs=0,
    batch_size=64,
    train_fraction=0.0032,
    valid_fraction=0.0032,
)


def experiment(work: Path) -> Result:
    runs = search_all(SEARCH, SETTINGS, SEEDS, work)
    field = cells(runs)
    compared = compare(work / "compare", (field[::2], field[1::2]), *TRAINING)
    timed = {name: work / f"time-{name}" for name in SETTINGS}
    for name, folder in timed.items():
        search_once(replace(TIME, **SETTINGS[name]), folder, threads=2)
    return {
        "environment": environment(next(iter(timed.values()))),
        "seeds": list(SEEDS),
        "searches": {name: searched(folders) for name, folders in runs.items()},
        **compared,
        "costs": {name: cost(folder) for name, folder in timed.items()},
    }


def cost(folder: Path) -> Result:
    lines = read_lines(folder / "metrics.jsonl")
    return {
        "settings": settings(folder),
        "images_per_second": [line["images_per_second"] for line in lines],
        "peak_memory_mib": lines[-1]["peak_memory_mib"],
    }


def table(result: Result) -> str:
    head = [
        *("K", "edge normalization", "super-net, %", "derived networks, %", "parameters"),
        *("images a second", "peak memory, MiB"),
    ]
    lines = []
    for name, found in result["searches"].items():
        derived = [g for g in result["genotypes"] if g["name"] in found["names"]]
        spent = result["costs"][name]
        lines.append(
            [
                found["settings"]["k"],
                "yes" if found["settings"]["edge_normalization"] else "no",
                percent(found["valid_accuracy"]),
                percent([g["mean"] for g in derived]),
                f"{statistics.mean(g['parameters'] for g in derived):,.0f}",
                f"{statistics.median(spent['images_per_second']):.1f}",
                f"{spent['peak_memory_mib']:,.0f}",
            ]
        )
    return f"{rows(head, lines)}\n\n{noise(result['genotypes'])}"


if __name__ == "__main__":
    main("ablation", experiment, table)
