"""A headless Chromium, driven over WebDriver (W3C) by its own chromedriver, without a network."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_STARTED = re.compile(r"started successfully on port (\d+)")
_ARGUMENTS = [
    "--headless=new",
    # Root needs it; what is opened is a file of our own that may run nothing.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # It asks nobody for anything, also not for updates of its own.
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


class Chromium:
    """One window of a running browser."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, path: Path) -> None:
        """Open a file, and wait until it has loaded."""
        self._post("url", {"url": path.as_uri()})

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._post("execute/sync", {"script": f"return ({expression})", "args": []})

    def resize(self, width: int, height: int = 800) -> None:
        """Give the page a viewport of this size, in CSS px."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str, media: str = "") -> None:
        """Say to the page that its reader prefers `light` or `dark`; `media` can be `print`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of Chromium's own protocol."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def pdf(self) -> bytes:
        """The page as it is printed, on paper of the size that it asks for."""
        # Without backgrounds, as browsers print unless told otherwise.
        wanted = {"preferCSSPageSize": True, "printBackground": False}
        printed = self.devtools("Page.printToPDF", wanted)
        return base64.b64decode(printed["data"])

    def complaints(self) -> list[str]:
        """What the console has shown since the last call: errors and warnings."""
        entries = self._post("se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def _post(self, command: str, body: dict[str, Any]) -> Any:
        return _send("POST", f"{self._session}/{command}", body)


@contextmanager
def running() -> Iterator[Chromium]:
    """Start the browser, and end it afterwards.

    :raises AssertionError: when it does not start.
    """
    # A home of its own: it leaves files behind, and is not to find anybody's settings.
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as home:
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            env={**os.environ, "HOME": home, "TMPDIR": home},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert driver.stdout is not None
            ports = (_STARTED.search(line) for line in driver.stdout)
            port = next((found[1] for found in ports if found), None)
            assert port, "chromedriver did not start"
            base = f"http://127.0.0.1:{port}/session"
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": _ARGUMENTS},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            session = _send("POST", base, {"capabilities": {"alwaysMatch": wanted}})
            url = f"{base}/{session['sessionId']}"
            try:
                yield Chromium(url)
            finally:
                _send("DELETE", url)
        finally:
            driver.terminate()
            driver.wait()


def _send(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 - chromedriver's own
    # No proxy: chromedriver is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as reply:
        return json.load(reply)["value"]
