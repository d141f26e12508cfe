"""`pcdarts` itself: its overview, its speed-independent imports, and its one-sentence errors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pcdarts_fast.cli.main import COMMANDS, main


def test_plain_call_names_every_command_and_gives_examples(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "pcdarts search --preset cifar10" in text


def test_overview_does_not_wait_for_torch():
    code = (
        "import sys\nfrom pcdarts_fast.cli import main\nassert main(['--help']) == 0\n"
        "assert main(['--version']) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    assert f"usage: pcdarts {command}" in capsys.readouterr().out


def test_unknown_command(capsys):
    assert main(["serach"]) == 2
    assert capsys.readouterr().err == (
        "pcdarts: no command 'serach' (did you mean search?); "
        "wanted one of search, train, compare, report, count, show, export, completion, info\n"
    )


def test_module_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "pcdarts_fast", "nothing"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stderr.startswith("pcdarts: no command 'nothing'")


def test_info_lists_every_backend_and_why_one_is_missing(capsys):
    from pcdarts_fast.ops import BACKENDS, why_not

    assert main(["info"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for backend in BACKENDS:
        reason = why_not(backend)
        assert (
            f"backend {backend} " + (f"not available: {reason}" if reason else "available") in text
        )
    assert "pcdarts_fast" in text and "torch" in text and "instruction sets" in text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("unsupported memory_format"), False),
    ],
)
def test_only_too_little_memory_is_called_so(error, told, monkeypatch, capsys):
    def fail(_):
        raise error

    monkeypatch.setattr("pcdarts_fast.cli.show.main", fail)
    if told:
        assert main(["show"]) == 2
        assert "smaller --batch-size" in capsys.readouterr().err
    else:
        with pytest.raises(RuntimeError):
            main(["show"])


def test_closed_streams_do_not_end_a_command():
    show = f"{sys.executable} -m pcdarts_fast show DARTS_V1"
    for closed in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        assert subprocess.run(f"{show} {closed}", shell=True, check=False).returncode == 0


def test_output_that_nobody_reads_ends_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pcdarts_fast", "show", "DARTS_V1"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")
