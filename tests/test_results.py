"""The tables of docs/results.md are what the experiments make of their JSON files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem != "results")


@pytest.mark.parametrize("name", NAMES)
def test_table_is_of_the_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    experiment, results = importlib.import_module(name), importlib.import_module("results")
    page = (ROOT / "docs" / "results.md").read_text()
    section = page.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]
    result = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    assert section == f"{results.where(result)}\n\n{experiment.table(result)}"
