"""Tables of measurements in the documents, between marks, as the programs that measure put them."""

from __future__ import annotations

from pathlib import Path


def put_section(page: Path, name: str, text: str) -> None:
    """Puts `text` between the marks `<!-- NAME -->` and `<!-- /NAME -->` of the page.

    Raises:
        ValueError: the page lacks one of them.
    """
    before, found, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, closed, after = rest.partition(f"<!-- /{name} -->")
    if not (found and closed):
        raise ValueError(f"{page} lacks one of the marks <!-- {name} --> and <!-- /{name} -->")
    page.write_text(f"{before}{found}{text}\n{closed}{after}")
