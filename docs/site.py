"""A mkdocs hook: README, CONTRIBUTING and CHANGELOG become pages of the site.

They and docs/ link to each other and to files of the repository as plain files do; here the links
between documents are led to their pages, and those to other files become their text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page -> document in the root of the repository."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page, document in BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / document)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = "" if page.file.src_uri in BESIDE else "docs"
    return LINK.sub(lambda link: _led(link, folder), markdown)


def _led(link: re.Match[str], folder: str) -> str:
    image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    if "://" in target:
        return link[0]
    path = posixpath.normpath(posixpath.join(folder, target))
    pages = {document: page for page, document in BESIDE.items()}
    if path in pages:
        return f"{image}[{text}]({pages[path]}{anchor})"
    if _is_page(path):
        return f"{image}[{text}]({path.removeprefix('docs/')}{anchor})"
    return text if (ROOT / path).exists() else link[0]


def _is_page(path: str) -> bool:
    """Whether the site has it: not the folders in docs/, nor this file."""
    return path.startswith("docs/") and (ROOT / path).is_file() and not path.endswith(".py")
