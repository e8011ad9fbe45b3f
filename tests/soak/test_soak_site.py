"""The gallery in a browser: filtered, sorted, compared, played, on a phone and by keyboard."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, browser

from parley.zoo.registry import list_models
from parley.zoo.site.build import write_site

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
SHOWN = """return [...document.querySelectorAll('#models tbody tr')].filter(r => !r.hidden)
    .map(r => r.querySelector('th a').textContent)"""
TAB = "\ue004"
ENTER = "\ue007"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "gallery"
    write_site(out, list_models())
    return out


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of 200 cards: those that there are, again and again."""
    shown = list_models()
    entries = []
    for i in range(200):
        entry = shown[i % len(shown)]
        name = entry.name if i < len(shown) else f"{entry.name}-{i}"
        entries.append(replace(entry, facts=replace(entry.facts, name=name), folder=None))
    out = tmp_path_factory.mktemp("many") / "gallery"
    write_site(out, entries, source=None)
    return out


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def test_filter(window: Browser, site: Path):
    window.open(site / "index.html")
    everything = window.run(SHOWN)
    assert everything == [entry.name for entry in list_models()]
    window.type("input[name=words]", "conformer tiny")
    assert window.run(SHOWN) == ["conformer-tiny"]
    assert "1 of" not in window.run("return document.title")
    count = window.run("return document.getElementById('count').textContent")
    assert count == f"1 of {len(everything)} models"
    window.click("button[type=reset]")
    window.wait("setTimeout(arguments[0], 50)")
    assert window.run(SHOWN) == everything
    window.click("input[name=turns]")
    assert window.run(SHOWN) == [e.name for e in list_models() if e.facts.turns]
    window.click("input[name=turns]")
    window.type("input[name=error]", "5")
    assert window.run(SHOWN) == [
        e.name for e in list_models() if e.error is not None and e.error <= 5
    ]


def test_sort_by_mouse_and_by_keyboard(window: Browser, site: Path):
    window.open(site / "index.html")
    entries = list_models()
    window.click("button[data-sort=params]")
    sizes = {e.name: e.facts.parameters for e in entries}
    found = [sizes[name] for name in window.run(SHOWN)]
    assert found == sorted(found)
    assert window.run(
        "return document.querySelector('button[data-sort=params]').closest('th').ariaSort"
    ) == "ascending"  # fmt: skip
    window.run("document.querySelector('button[data-sort=error]').focus()")
    window.keys(ENTER)
    window.keys(ENTER)
    errors = {e.name: e.error for e in entries}
    found = [errors[name] for name in window.run(SHOWN)]
    known = [e for e in found if e is not None]
    assert known == sorted(known, reverse=True)
    assert found[len(known) :] == [None] * (len(found) - len(known))


def test_compare(window: Browser, site: Path):
    window.open(site / "index.html")
    for name in ("contextnet-tiny", "lstm-tiny"):
        window.click(f".choose[value={name}]")
    window.click("#compare")
    names = "return [...document.querySelectorAll('#plot a text')].map(t => t.textContent)"
    assert sorted(window.run(names)) == ["contextnet-tiny", "lstm-tiny"]
    rows = "return [...document.querySelectorAll('#plot-table tbody tr')].map(r => r.innerText)"
    first = next(e for e in list_models() if e.name == "contextnet-tiny")
    assert first.error is not None
    assert f"{first.error:.2f} %" in "".join(window.run(rows))
    before = window.run("return document.querySelector('#plot circle').getAttribute('cx')")
    window.run(
        "const s = document.querySelector('select[name=axis]'); s.value = 'params';"
        "s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    after = window.run("return document.querySelector('#plot circle').getAttribute('cx')")
    assert before != after
    told = window.run("return document.querySelector('#plot a').getAttribute('aria-label')")
    assert "WER" in told


def test_play(window: Browser, site: Path):
    for name in ("rnnt-tiny", "speaker-tiny", "sts-tiny"):
        window.open(site / "cards" / f"{name}.html")
        played = window.wait(
            "const done = arguments[0], a = document.querySelector('audio'); a.muted = true;"
            "a.onerror = () => done('error ' + a.error.code);"
            "a.ontimeupdate = () => a.currentTime > 0.3 && done(a.duration); a.play()"
        )
        assert isinstance(played, float | int), played
        assert 0.5 < played < 60


def test_every_page_is_quiet_and_fits_a_phone(window: Browser, site: Path):
    """No complaint in the console, nothing from elsewhere, nothing wider than the screen."""
    window.resize(500, 800)
    for page in sorted(site.rglob("*.html")):
        window.open(page)
        wide = window.run("return document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{page.relative_to(site)} is {wide} px too wide"
        fetched = window.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert all(address.startswith("file:") for address in fetched), fetched
        assert window.log() == [], page
    window.resize(1200, 900)


def test_the_first_key_leads_to_the_content(window: Browser, site: Path):
    window.open(site / "cards" / "rnnt-tiny.html")
    window.keys(TAB)
    assert window.run("return document.activeElement.textContent") == "To the content"
    window.keys(ENTER)
    assert window.run("return document.activeElement.tagName") == "MAIN"


def test_two_hundred_cards(window: Browser, many: Path, capsys: pytest.CaptureFixture[str]):
    """How long until the table can be used, which a loaded machine may not be held to."""
    window.open(many / "index.html")
    assert len(window.run(SHOWN)) == 200
    taken = window.run("return performance.getEntriesByType('navigation')[0].domInteractive")
    ready = window.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    typed = window.run(
        "const t = performance.now(); const i = document.querySelector('input[name=words]');"
        "i.value = 'tiny'; i.dispatchEvent(new Event('input', {bubbles: true}));"
        "document.body.offsetHeight; return performance.now() - t"
    )
    sorted_ = window.run(
        "const t = performance.now(); document.querySelector('button[data-sort=error]').click();"
        "document.body.offsetHeight; return performance.now() - t"
    )
    with capsys.disabled():
        print(
            f"\n200 cards: interactive after {taken:.0f} ms, loaded after {ready:.0f} ms; "
            f"a filter {typed:.0f} ms, a sort {sorted_:.0f} ms"
        )


@pytest.mark.parametrize(
    "page", ["index.html", "compare.html", "groups.html", "cards/rnnt-tiny.html",
             "cards/speaker-tiny.html", "docs/index.html", "docs/results/encoders.html"],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(window: Browser, site: Path, page: str, scheme: str):
    """axe-core, where PARLEY_AXE names its axe.min.js (npm pack axe-core)."""
    axe = os.environ.get("PARLEY_AXE")
    if not axe:
        pytest.skip("PARLEY_AXE does not name axe.min.js")
    emulate = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    window.call("POST", "/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=emulate)
    window.open(site / page)
    window.run(Path(axe).read_text())
    found = window.wait("axe.run().then(arguments[0])")
    serious = [
        {"id": v["id"], "impact": v["impact"], "nodes": [n["html"][:160] for n in v["nodes"][:3]]}
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, indent=1)
    assert found["passes"]
