"""A fairness report in a real browser, wide and on a phone, spoken to by its driver over HTTP."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crowds import repaired, scored_rows, write_scores
from parley.zoo import cli

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its chromedriver here"),
]


class Driver:
    """A browser that is told what to do."""

    def __init__(self, port: int, profile: Path, *, width: int, phone: bool):
        self.base = f"http://127.0.0.1:{port}"
        options: dict[str, Any] = {
            "binary": BROWSER,
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={profile}", f"--window-size={width},900",
            ],
        }  # fmt: skip
        if phone:
            metrics = {"width": width, "height": 740, "pixelRatio": 2.0}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def open(self, path: Path) -> None:
        self._call("POST", f"{self.session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str) -> Any:
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        return self._call("POST", f"{self.session}/se/log", {"type": kind})

    def screenshot(self) -> bytes:
        return base64.b64decode(self._call("GET", f"{self.session}/screenshot"))

    def close(self) -> None:
        self._call("DELETE", self.session)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    assert DRIVER is not None
    process = subprocess.Popen([DRIVER, f"--port={number}"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{number}/status", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        yield number
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page")
    rows = scored_rows()
    for row in rows:
        if row["metadata"]["accent"] == "raro":
            row["metadata"]["accent"] = "<img src=http://127.0.0.1:9/x onerror=document.title='x'>"
    before = write_scores(made / "a.jsonl", rows)
    after = write_scores(made / "b.jsonl", repaired(rows))
    out = made / "report.html"
    command = ["fairness", "report", str(before), str(after), "--by", "accent", "gender"]
    assert cli.main([*command, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(("width", "phone"), [(1200, False), (360, True)])
def test_a_browser_shows_all_of_it(port: int, page: Path, width: int, phone: bool, tmp_path: Path):
    driver = Driver(port, tmp_path / "profile", width=width, phone=phone)
    try:
        driver.open(page)
        assert driver.run("return document.title") == "Who is served how well"
        # The page itself does not scroll sideways; wide tables do, inside of it.
        across = driver.run("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert across[0] <= across[1] + 1
        pictures = driver.run("return [...document.images].map(i => [i.complete, i.naturalWidth])")
        assert len(pictures) == 6
        assert all(done and wide > 100 for done, wide in pictures)
        sides = driver.run("return [...document.images].map(i => i.getBoundingClientRect().right)")
        assert max(sides) <= across[1] + 1
        small = driver.run(
            "return [...document.querySelectorAll('p, li, td, th')]"
            ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length"
        )
        assert small == 0
        assert not [e for e in driver.log("browser") if e["level"] in ("SEVERE", "WARNING")]
        asked = [json.loads(e["message"])["message"] for e in driver.log("performance")]
        sent = [m["params"] for m in asked if m["method"] == "Network.requestWillBeSent"]
        # The browser's own first page also asks for things.
        urls = [p["request"]["url"] for p in sent if p["documentURL"] == page.resolve().as_uri()]
        assert page.resolve().as_uri() in urls
        elsewhere = [url for url in urls if not url.startswith(("file:", "data:"))]
        assert not elsewhere, elsewhere
        assert len(driver.screenshot()) > 10_000
    finally:
        driver.close()
