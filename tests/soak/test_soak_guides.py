"""The documentation as a site: built without a warning, and quiet in a browser."""

import subprocess
import sys
from pathlib import Path

import pytest
from browser import browser

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"


def test_the_site_asks_nothing_of_another_place():
    pytest.importorskip("zensical", reason="`make docs` installs what builds the site")
    made = subprocess.run(
        ["make", "docs", f"PYTHON={sys.executable}"], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    pages = sorted(SITE.rglob("*.html"))
    sources = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in ROOT.glob("docs/**/*.md")}
    assert sources <= {page.relative_to(SITE) for page in pages}
    with browser() as window:
        window.resize(500, 800)
        for page in pages:
            window.open(page)
            fetched = window.run("return performance.getEntriesByType('resource').map(e => e.name)")
            assert all(address.startswith("file:") for address in fetched), (page, fetched)
            wide = window.run("return document.documentElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{page.relative_to(SITE)} is {wide} px too wide"
            assert ":::" not in window.run("return document.querySelector('article').innerText")
