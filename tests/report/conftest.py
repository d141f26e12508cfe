"""Run folders as a search leaves them, without the time that a search takes."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.space import cell_edges, random_genotype

Make = Callable[..., Path]


@pytest.fixture
def make_search(tmp_path: Path) -> Make:
    """`make_search(name, epochs=4, spread=0.1, backend="cpu", **settings)` -> its folder.

    `spread` is how far alpha and beta move in an epoch after the frozen one.
    """

    def make(
        name: str = "run", epochs: int = 4, spread: float = 0.1, backend: Any = "cpu", **settings
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        small = {"epochs": epochs, "frozen_epochs": 1, "layers": 3, "init_channels": 4, "nodes": 2}
        config = replace(search_config("digits"), **{**small, **settings})
        save_settings(config, folder / "config.yaml")
        dice = random.Random(config.seed)
        edges, choices = len(cell_edges(config.nodes)), len(config.primitives)
        alphas = {f"alphas_{kind}": [[0.0] * choices] * edges for kind in ("normal", "reduce")}
        betas = {f"betas_{kind}": [0.0] * edges for kind in ("normal", "reduce")}
        metrics, architecture = [], []
        for epoch in range(epochs):
            if epoch >= config.frozen_epochs:
                alphas = {
                    name: [[v + dice.gauss(0, spread) for v in row] for row in table]
                    for name, table in alphas.items()
                }
                betas = {n: [v + dice.gauss(0, spread) for v in row] for n, row in betas.items()}
            loss = 2.3 * math.exp(-epoch / 4)
            metrics.append(
                {
                    "epoch": epoch,
                    "train_loss": loss,
                    "train_accuracy": 1 - loss / 2.5,
                    "valid_loss": loss + 0.1,
                    "valid_accuracy": 0.98 - loss / 2.5,
                    "skips": 1,
                    "alpha_entropy_normal": 2.079 - 0.001 * epoch,
                    "beta_entropy_normal": 1.0 - 0.001 * epoch,
                    "alpha_entropy_reduce": 2.079 - 0.002 * epoch,
                    "beta_entropy_reduce": 1.0 - 0.002 * epoch,
                    "images_per_second": 812.5,
                    "seconds": 90.0,
                    "peak_memory_mib": 812.0,
                }
            )
            architecture.append({"epoch": epoch, **alphas, **betas})
        for file, lines in (("metrics", metrics), ("architecture", architecture)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / f"{file}.jsonl").write_text(text)
        record = {"python": "3.12.1", "device": "cpu", "backend": backend, "packages": {"a": "1"}}
        (folder / "environment.json").write_text(json.dumps([record]))
        random_genotype(0, nodes=config.nodes).save(folder / "genotype.json")
        return folder

    return make
