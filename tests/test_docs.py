"""The documents keep their word: snippets run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import tyro

from pcdarts_fast.cli import main
from pcdarts_fast.cli.main import COMMANDS
from pcdarts_fast.nn import operations
from pcdarts_fast.run.config import SearchConfig
from pcdarts_fast.run.presets import search_config
from pcdarts_fast.run.settings import save_settings
from pcdarts_fast.train.config import TrainConfig
from pcdarts_fast.train.presets import train_config

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


def commands() -> list:
    """Every `pcdarts ...` at the start of a code line, behind `&&`, or between backticks.

    Between backticks `pcdarts NAME` alone may be the name of a command: its help must exist.
    """
    found = {}
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        text = re.sub(r"^```\w*$", "", text, flags=re.MULTILINE)
        lines = re.findall(r"^(?: {2,}|\$ )?(?:.*&& )?(pcdarts [^`\n]*)$", text, re.MULTILINE)
        inline = re.findall(r"`(pcdarts [^`\n]+)`", text)
        names = [line for line in inline if len(line.split()) == 2]
        for line in [*lines, *(set(inline) - set(names)), *(f"{name} --help" for name in names)]:
            found[line.strip()] = path
    return [pytest.param(line, id=f"{name_of(p)}-{line}") for line, p in sorted(found.items())]


def test_the_documents_are_found():
    names = {name_of(path) for path in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"} <= names
    assert len(snippets()) >= 4
    mentioned = {shlex.split(line.values[0])[1] for line in commands()}
    assert set(COMMANDS) <= mentioned


@pytest.mark.parametrize("snippet", snippets())
def test_snippet_runs(snippet, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operations, "OPERATIONS", dict(operations.OPERATIONS))
    torch.manual_seed(0)
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})


class Parsed(Exception):
    """The options of a command were accepted; nothing of it has run."""


def save_run_to_resume(arguments: list[str]) -> None:
    """The settings of the run that `--resume --output-dir FOLDER` wants to find."""
    folder = Path(arguments[arguments.index("--output-dir") + 1])
    folder.mkdir(parents=True)
    config = search_config("digits") if arguments[0] == "search" else train_config("digits")
    save_settings(config, folder / "config.yaml")


@pytest.mark.parametrize("line", commands())
def test_command_parses(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(line, comments=True)
    parse = tyro.cli

    def parse_only(*args, **kwargs):
        parse(*args, **kwargs)
        raise Parsed

    monkeypatch.setattr(tyro, "cli", parse_only)
    if "--resume" in arguments:
        save_run_to_resume(arguments)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 0
        return
    with pytest.raises(Parsed):
        main(arguments)


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


def test_every_option_of_the_method_exists():
    known = {field.name for kind in (SearchConfig, TrainConfig) for field in fields(kind)}
    options = re.findall(r"`--(?:no-)?([a-z0-9-]+)", (ROOT / "docs" / "method.md").read_text())
    assert len(options) > 20
    assert {option.replace("-", "_") for option in options} <= known | {"genotype"}
