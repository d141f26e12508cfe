"""The documents keep their word: snippets run, links lead somewhere, options exist."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from pcdarts_fast.nn import operations
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def snippets() -> list:
    found = []
    for path in DOCUMENTS:
        blocks = re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [pytest.param(b, id=f"{name_of(path)}-{n}") for n, b in enumerate(blocks, 1)]
    return found


def test_the_documents_are_found():
    names = {name_of(path) for path in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"} <= names
    assert len(snippets()) >= 4


@pytest.mark.parametrize("snippet", snippets())
def test_snippet_runs(snippet, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
    torch.manual_seed(0)
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", text):
        if target.startswith(("https://", "http://")):
            continue
        linked = (path.parent / target) if target else path
        assert linked.exists(), f"{name_of(path)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings]
            assert anchor[1:] in slugs, f"{name_of(path)} links to {target}{anchor}"


def test_what_the_api_documents_exists_and_says_something():
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert len(names) > 20 and len(set(names)) == len(names)
    for name in names:
        where, _, last = name.rpartition(".")
        if (ROOT / f"{name.replace('.', '/')}.py").exists():
            documented = importlib.import_module(name)
        else:
            documented = getattr(importlib.import_module(where), last)
        assert inspect.getdoc(documented), name


def test_every_option_of_the_method_exists():
    known = {field.name for kind in (SearchConfig, TrainConfig) for field in fields(kind)}
    options = re.findall(r"`--(?:no-)?([a-z0-9-]+)", (ROOT / "docs" / "method.md").read_text())
    assert len(options) > 20
    assert {option.replace("-", "_") for option in options} <= known | {"genotype"}
