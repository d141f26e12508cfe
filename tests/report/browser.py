"""A headless Chromium, spoken to through two pipes by its DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from select import select
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)

PATIENCE = 120.0
"""Seconds, also on a busy machine."""

# The protocol reads from 3 and writes to 4.
AS_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The program, or None where none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page; used with `with`."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._commands = _pipe()
        self._answers, answers = _pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(commands), str(answers), program, *OPTIONS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method; events that come before it are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    def open(self, page: Path, width: int, height: int, scheme: str) -> None:
        """Shows a file in a window of `width` pixels, in the `light` or the `dark` scheme."""
        self.events.clear()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=wanted)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """What the console would show, and what was asked of the network, since `open`."""
        self.run("0")  # whatever came before its answer has been read
        told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        asked = "Network.requestWillBeSent"
        found = [str(event["params"]) for event in self.events if event.get("method") in told]
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == asked]
        return found + [url for url in urls if not url.startswith(("file://", "data:"))]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._answers], [], [], PATIENCE)
            part = os.read(self._answers, 1 << 16) if ready else b""
            assert part, "Chromium has ended" if ready else "Chromium does not answer"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


def _pipe() -> tuple[int, int]:
    """Out of the way of 3 and 4, to which they are moved."""
    ends = os.pipe()
    moved = tuple(fcntl(end, F_DUPFD, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
