"""A run that is opened: a new one, or the one that was begun."""

from __future__ import annotations

from pcdarts_fast.run.opened import opened
from pcdarts_fast.run.stop import never


def test_after_a_restart_a_run_goes_on_where_it_was_begun_and_else_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    for begun in (False, True):
        with opened(tmp_path, device="cpu", batch_size=2, resume=False, stop=never) as run:
            assert run.resume is begun
            run.folder.config.write_text("epochs: 1")
