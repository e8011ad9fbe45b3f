"""The gallery as files: whole, escaped, with no address outside it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pages import Page, site_pages

from parley.zoo import cli
from parley.zoo.card_examples import read_examples
from parley.zoo.cards import read_card, write_card
from parley.zoo.registry import Entry, list_models
from parley.zoo.site.build import write_site

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "gallery"
    assert cli.main(["site", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return site_pages(site)


def test_every_model_and_every_guide_has_its_page(pages: dict[str, Page]):
    root = Path(__file__).parents[2]
    guides = {
        p.relative_to(root).with_suffix(".html").as_posix()
        for p in root.glob("docs/**/*.md")
        if p.parent.name != "reference"
    }
    cards = {f"cards/{entry.name}.html" for entry in list_models()}
    assert set(pages) >= guides | cards | {"index.html", "compare.html", "groups.html"}
    for name in cards:
        assert f"../{name}" not in pages["index.html"].links
        assert name in pages["index.html"].links
    contents = pages["docs/index.html"]
    assert {f"docs/{to}" for to in contents.links} >= guides - {"docs/index.html"}
    for name in guides:
        assert "only parsed" not in pages[name].words


def test_numbers_of_a_card_are_on_its_page(pages: dict[str, Page]):
    for entry in list_models():
        page = pages[f"cards/{entry.name}.html"]
        for result in (*entry.results, *entry.verification):
            assert " ".join(result.command.split()) in page.words
            assert result.date in page.words
            for groups in result.groups.values():
                assert all(value in page.words for value in groups)
        if not entry.trained:
            assert "This preset has no weights." in page.words


def test_shipped_models_can_be_heard(pages: dict[str, Page], site: Path):
    for entry in list_models():
        if entry.folder is None:
            continue
        examples = read_examples(entry.folder)
        assert examples is not None, f"parley card examples {entry.name}"
        page = pages[f"cards/{entry.name}.html"]
        assert page.tags.count("audio") == len(examples.heard) + 2 * len(examples.pairs)
        for heard in examples.heard:
            assert heard.reference in page.words
            assert heard.hypothesis in page.words
        assert sum(p.stat().st_size for p in (site / "media" / entry.name).iterdir()) < 1 << 19


def test_the_comparison_has_the_numbers(site: Path):
    text = (site / "compare.html").read_text()
    start = text.index(">", text.index('id="data"')) + 1
    records = json.loads(text[start : text.index("</script>", start)])
    assert [r["name"] for r in records] == [entry.name for entry in list_models()]
    one = next(r for r in records if r["name"] == "rnnt-tiny")
    assert one["results"][0] == {
        "data": "assistant, test", "metric": "WER", "error": 3.07, "low": 2.36, "high": 3.85,
    }  # fmt: skip


def test_a_page_can_be_read_aloud(pages: dict[str, Page]):
    for name, page in pages.items():
        assert page.tags.count("main") == page.tags.count("h1") == 1, name
        assert page.tags[:2] == ["html", "head"]
        assert "skip" in page.path.read_text()[:2000]


def test_written_anew_and_never_over_other_things(
    tmp_path: Path, tiny_folder: Path, capsys: Output
):
    out = tmp_path / "out"
    assert cli.main(["site", str(out), "--no-docs", "--add", str(tiny_folder)]) == 0
    assert (out / "cards" / "tiny.html").is_file()
    (out / "stale.html").touch()
    assert cli.main(["site", str(out), "--no-docs"]) == 0
    assert not (out / "stale.html").exists()
    assert not (out / "cards" / "tiny.html").exists()
    site_pages(out)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    capsys.readouterr()
    assert cli.main(["site", str(mine)]) == 2
    assert "is no site of parley's" in capsys.readouterr().err
    assert (mine / "thesis.txt").exists()


def test_two_models_of_one_name(tmp_path: Path, tiny_folder: Path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "m"))
    card = read_card(folder / "README.md")
    write_card(folder / "README.md", replace(card, facts=replace(card.facts, name="Tiny")))
    entries = [Entry(read_card(f / "README.md").facts, folder=f) for f in (tiny_folder, folder)]
    with pytest.raises(ValueError, match="two models are called tiny and Tiny"):
        write_site(tmp_path / "out", entries, source=None)
    assert not (tmp_path / "out").exists()
