"""What the experiments share: they search, train by `pcdarts compare`, read the run folders, and
leave their numbers in docs/results/NAME.json and as a table in docs/results.md.

Run folders lie under --work (default runs/results). A search or a training that is finished there
is not run again, so that an experiment goes on after an interruption.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml

from pcdarts_fast.files import write_atomically
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.folder import read_lines
from pcdarts_fast.run.openmp import wait_briefly
from pcdarts_fast.run.settings import load_settings
from pcdarts_fast.search import EpochDone, search
from pcdarts_fast.space import Genotype
from pcdarts_fast.testing.sections import put_section

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
Result = dict[str, Any]


def main(name: str, experiment: Callable[[Path], Result], table: Callable[[Result], str]) -> None:
    """The command line of an experiment: runs it, or with --table only writes its table anew."""
    parser = argparse.ArgumentParser(description=f"docs/results.md, section {name}")
    parser.add_argument("--work", type=Path, default=Path("runs/results"), help="run folders")
    parser.add_argument("--table", action="store_true", help="from the JSON, without running")
    arguments = parser.parse_args()
    path = DOCS / "results" / f"{name}.json"
    if not arguments.table:
        path.parent.mkdir(exist_ok=True)
        result = {**experiment(arguments.work / name), "date": f"{datetime.date.today()}"}
        write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
    result = json.loads(path.read_text())
    put_section(DOCS / "results.md", name, f"{where(result)}\n\n{table(result)}")


def where(result: Result) -> str:
    machine = result["environment"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    return (
        f"*{threads} of {machine['processor']} ({machine['cpu_instruction_set']}"
        f"), torch {machine['packages']['torch']}, {result['date']}.*"
    )


def pcdarts(*arguments: object, threads: int | None = None) -> None:
    """Runs a command; its output is seen."""
    command = [sys.executable, "-m", "pcdarts_fast", *map(str, arguments)]
    given = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, check=True)


def search_once(config: SearchConfig, folder: Path, threads: int = 1) -> None:
    """A search in a process of its own, so that its peak memory is its own; unless it is finished.

    Unlike `pcdarts search` it does not time the naive super-net, which can take longer than all
    of a short search.
    """
    saved = folder / "config.yaml"
    if saved.exists() and load_settings(SearchConfig, saved) == config:
        metrics = folder / "metrics.jsonl"
        if metrics.exists() and len(read_lines(metrics)) == config.epochs:
            return
    wait_briefly()  # as `pcdarts` has it: the process begins with this environment
    child = get_context("spawn").Process(target=_search, args=(config, folder, threads))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"the search in {folder} ended with exit code {child.exitcode}")


def _search(config: SearchConfig, folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    for event in search(config, folder, resume=(folder / "config.yaml").exists()):
        if isinstance(event, EpochDone):
            valid, seconds = event.metrics["valid_accuracy"], event.metrics["seconds"]
            epoch = f"epoch {event.metrics['epoch'] + 1}/{config.epochs}"
            print(f"{folder}  {epoch}  valid {valid:.1%}  {seconds:.1f} s", flush=True)


def search_all(
    config: SearchConfig,
    methods: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    work: Path,
) -> dict[str, list[Path]]:
    """Searches by every method, which changes settings of `config`; the seeds' folders of each.

    Seed by seed, so that what is there early is fair to all.
    """
    runs = {name: [work / f"{name}-{seed}".lower() for seed in seeds] for name in methods}
    two_at_once(
        partial(search_once, replace(config, seed=seed, **methods[name]), folders[number])
        for number, seed in enumerate(seeds)
        for name, folders in runs.items()
    )
    return runs


def searched(folders: Sequence[Path]) -> Result:
    """How the searches of one method ended, and the names of their cells."""
    last = [read_lines(folder / "metrics.jsonl")[-1] for folder in folders]
    return {
        "names": [folder.name for folder in folders],
        "settings": settings(folders[0]),
        "valid_accuracy": [line["valid_accuracy"] for line in last],
        "alpha_entropy_normal": [line["alpha_entropy_normal"] for line in last],
    }


def cells(runs: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Copies of all searches' genotypes, each named as its folder is."""
    return [
        Path(shutil.copyfile(folder / "genotype.json", folder.with_suffix(".json")))
        for folders in runs.values()
        for folder in folders
    ]


def two_at_once(jobs: Iterable[Callable[[], None]]) -> None:
    """Small networks keep two cores busier as two processes of one thread than the other way."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: job(), jobs))


def compare(folder: Path, shares: Sequence[Sequence[object]], *options: object) -> Result:
    """What `pcdarts compare` finds; every share of the genotypes has a process of its own."""
    command = ("compare", "--output-dir", folder, *options)
    two_at_once(partial(pcdarts, *command, *share, threads=1) for share in shares)
    pcdarts(*command, *(one for share in shares for one in share))  # puts them together
    found: Result = json.loads((folder / "compare.json").read_text())
    return {
        "budget": found["budget"],
        "training_seeds": found["seeds"],
        "genotypes": found["genotypes"],
    }


def settings(folder: Path) -> Result:
    """Of a run folder, without the seed and what says where the data is."""
    found: Result = yaml.safe_load((folder / "config.yaml").read_text())
    del found["seed"], found["data_dir"]
    return found


def environment(folder: Path) -> Result:
    """Of a run folder, and the processor's name."""
    found = json.loads((folder / "environment.json").read_text())[0]
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    del found["seed"], found["backend"]
    return {**found, "processor": names[0] if names else "an unknown processor"}


def summary(folders: Sequence[Path]) -> Result:
    """What searches of one setting reached: all seeds, and means."""
    metrics = [read_lines(folder / "metrics.jsonl") for folder in folders]
    learning = [line for lines in metrics for line in lines if line["arch_learning_rate"]]
    return {
        "valid_accuracy": [lines[-1]["valid_accuracy"] for lines in metrics],
        "seconds_an_epoch": statistics.median(line["seconds"] for line in learning),
        "peak_memory_mib": max(line["peak_memory_mib"] for line in learning),
        "genotypes": [json.loads(Genotype.load(folder).to_json()) for folder in folders],
    }


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{spread}"


def noise(genotypes: Sequence[Result]) -> str:
    """How far trainings of one genotype differ, pooled over all of them."""
    variances = [statistics.variance(one["test_accuracy"].values()) for one in genotypes]
    deviation = 100 * math.sqrt(statistics.mean(variances))
    return f"Two trainings of one cell differ with a standard deviation of {deviation:.2f} %."


def rows(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table of Markdown; numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, rule, *lines))
