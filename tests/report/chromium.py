"""Headless Chromium, driven through its DevTools pipe: one browser, pages of any width and colour scheme."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")


def installed() -> str | None:
    """The browser's path, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with a profile of its own in `folder`; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        take, self._write = os.pipe()
        self._read, give = os.pipe()
        command = [installed() or NAMES[0], *FLAGS, f"--user-data-dir={folder}"]

        def connect() -> None:  # Chromium takes commands on descriptor 3 and answers on 4
            os.dup2(take, 3), os.dup2(give, 4)
            os.set_inheritable(3, True), os.set_inheritable(4, True)  # where they had these numbers before

        quiet = subprocess.DEVNULL
        # not pass_fds: it wants 3 and 4 to be open already
        self._process = subprocess.Popen(command, close_fds=False, preexec_fn=connect, stdout=quiet, stderr=quiet)
        os.close(take), os.close(give)
        self._ids, self._rest, self.events = itertools.count(1), b"", []

    def __enter__(self) -> Chromium:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.page(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write), os.close(self._read)
        self._process.kill()
        self._process.wait()

    def call(self, method: str, session: str = "", **parameters: object) -> dict:
        """One command; what the browser says meanwhile goes to `events`."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def page(self, method: str, **parameters: object) -> dict:
        """One command to the page."""
        return self.call(method, self._session, **parameters)

    def open(self, path: Path, width: int, height: int, scheme: str) -> None:
        """Show the file at `path` on a screen of `width` by `height`, in `scheme` light or dark."""
        self.events.clear()
        phone = width < 600
        self.page(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self.page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.page("Page.navigate", url=path.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())

    def evaluate(self, script: str) -> object:
        """The value of a JavaScript expression in the page."""
        answer = self.page("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        data = self.page("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        return base64.b64decode(data)

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 16)
            assert piece, "Chromium has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
