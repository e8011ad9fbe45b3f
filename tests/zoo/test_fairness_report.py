"""The page holds every number of its JSON, sends no request, and says nothing of whom it is not
asked to."""

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from crowds import repaired, scored_rows, write_scores
from parley.fairness.clusters import Clusters
from parley.fairness.cohorts import Ranking, choosers_of, write_choosers, write_cohorts
from parley.fairness.regions import Regions
from parley.zoo import cli

REPORT = ["fairness", "report"]
HOSTILE = "<script>alert('x')</script>\" onload=\"x() $\\frac$ \ud800 \u202e"


class Page(HTMLParser):
    """What a page shows, and what its attributes name."""

    def __init__(self, source: str):
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._skip = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skip = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._skip = False
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += "" if self._skip else data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def numbers(self) -> set[float]:
        plain = self.text.replace(",", "") + " " + self.text.replace(",", " ")
        return {float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", plain)}

    def pictures(self) -> list[str]:
        begin = "data:image/svg+xml;base64,"
        sources = [a["src"] or "" for a in self.of("img")]
        assert all(s.startswith(begin) for s in sources)
        return [base64.b64decode(s.removeprefix(begin)).decode() for s in sources]


def numbers_in(value: Any) -> set[float]:
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers_in, value))
    return {float(value)} if type(value) in (int, float) else set()


def assert_safe(page: Page) -> None:
    """Nothing that runs, nothing that is fetched."""
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "svg", "a"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "poster", "action", "data", "background"):
            assert (attributes.get(name) or "data:").startswith("data:")
    for picture in page.pictures():
        assert "<script" not in picture
        assert "<metadata" not in picture
        # A mark within the picture, or an image of the scale of colours.
        assert set(re.findall(r'href="(#|data:|.)', picture)) <= {"#", "data:"}
        assert set(re.findall(r"url\((.)", picture)) <= {"#"}
    policy = next(a for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def assert_complete(page: Page, record: dict[str, Any]) -> None:
    missing = numbers_in(record) - page.numbers()
    assert not missing, sorted(missing)[:20]


def assert_accessible(page: Page) -> None:
    assert [t for t, _ in page.tags if t == "h1"] == ["h1"]
    levels = [int(t[1]) for t, _ in page.tags if re.fullmatch("h[1-6]", t)]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(len(a["alt"] or "") > 20 for a in page.of("img"))
    assert all(a.get("scope") in ("col", "row", "colgroup") for a in page.of("th"))
    assert all(a.get("aria-label") for a in page.of("audio"))
    assert len(page.of("caption")) == len(page.of("table"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fairness-report")
    rows = scored_rows()
    write_scores(made / "before.jsonl", rows)
    write_scores(made / "after.jsonl", repaired(rows))
    return made


@pytest.fixture(scope="module")
def written(folder: Path) -> tuple[Page, dict[str, Any]]:
    files = [str(folder / f"{name}.jsonl") for name in ("before", "after")]
    out = folder / "new" / "report.html"
    command = [*REPORT, *files, "--by", "accent", "gender", "--adjust-for", "noise", "--out"]
    assert (
        cli.main([*command, str(out), "--names", "before", "after", "--title", "Two of them"]) == 0
    )
    record = json.loads(out.with_suffix(".json").read_text())
    return Page(out.read_text()), record


def test_every_number_of_the_json_stands_on_the_page(written):
    page, record = written
    assert len(numbers_in(record)) > 150
    assert_complete(page, record)


def test_the_page_is_safe_and_accessible(written):
    page, _ = written
    assert_safe(page)
    assert_accessible(page)
    assert len(page.pictures()) == 2 * 3


def test_the_page_says_what_it_should(written):
    page, _ = written
    for words in (
        "Two of them",
        "What this does not show",
        "Missing metadata",
        "raro, too few",
        "alto (bottom)",
        "basso (top)",
        "were chosen on these speakers, by before",
        "adjusted for all 6 such tests",
        "Harm check",
        "at equal noise",
    ):
        assert words in page.text, words


def test_no_speaker_and_no_file_is_named(folder: Path, written):
    page, record = written
    both = page.text + json.dumps(record)
    assert not re.search(r"\bs\d+(-\d+)?\b", both)
    assert "jsonl" not in both
    assert str(folder) not in both
    out = folder / "named.html"
    scores = str(folder / "before.jsonl")
    assert cli.main([*REPORT, scores, "--by", "gender", "--with-ids", "--out", str(out)]) == 0
    named = Page(out.read_text()).text
    assert "before.jsonl" in named
    assert str(folder) not in named


def test_the_same_scores_give_the_same_page(folder: Path):
    out = folder / "one.html"
    command = [*REPORT, str(folder / "before.jsonl"), "--by", "gender", "--out", str(out)]
    assert cli.main(command) == 0
    first = out.read_bytes()
    assert cli.main(command) == 0
    assert out.read_bytes() == first


def test_hostile_metadata_is_text(folder: Path):
    rows = scored_rows()
    for row in rows:
        if row["metadata"]["accent"] == "alto":
            row["metadata"]["accent"] = HOSTILE
        row["metadata"]["<b>column</b>"] = "x"
    scores, out = write_scores(folder / "hostile.jsonl", rows), folder / "hostile.html"
    command = [*REPORT, str(scores), str(scores), "--names", "<i>A</i>", "$B$", "--by", "accent"]
    assert cli.main([*command, "--title", "<u>&amp;", "--out", str(out)]) == 0
    page = Page(out.read_text())
    assert_safe(page)
    assert_complete(page, json.loads(out.with_suffix(".json").read_text()))
    for words in ("<script>alert('x')</script>", "<b>column</b>", "<i>A</i>", "$B$", "<u>&amp;"):
        assert words in page.text, words
    assert "\u202e" not in page.text


def test_regions_have_a_map_without_anybodys_place(folder: Path):
    where = folder / "regions"
    end = np.inf
    boxes = np.array([[-end, -3, -end, end], [-3, end, -end, 54.0], [-3, end, 54.0, end]])
    ranking = Ranking(("b", "c", "a"), {"b": "bottom", "c": "middle", "a": "top"})
    write_cohorts(where, Regions(("a", "b", "c"), boxes), ranking)
    files = [str(folder / f"{name}.jsonl") for name in ("before", "after")]
    out = folder / "regions.html"
    command = [*REPORT, *files, "--cohorts", str(where), "--min-speakers", "5", "--out", str(out)]
    assert cli.main(command) == 0
    page, record = Page(out.read_text()), json.loads(out.with_suffix(".json").read_text())
    assert "was not checked" in page.text
    assert_complete(page, record)
    assert any("longitude" in picture for picture in page.pictures())

    write_choosers(where, choosers_of(f"s{i}" for i in range(0, 135, 2)))
    assert cli.main(command) == 0
    page, record = Page(out.read_text()), json.loads(out.with_suffix(".json").read_text())
    assert "Checked by name" in page.text
    (grouping,) = record["groupings"]
    assert sum(g["speakers"] for g in grouping["groups"]) == 67
    assert grouping["named_beforehand"]
    assert "by chance, % of the top's rate" in page.text
    assert_complete(page, record)
    assert_safe(page)


def test_voices_can_be_heard(folder: Path):
    where, rows = folder / "voices", scored_rows()
    names = ("high", "low")
    clusters = Clusters(names, np.eye(2, dtype=np.float32), ("speaker-model", "1"))
    write_cohorts(where, clusters, Ranking(names, {"high": "bottom", "low": "top"}))
    examples = {"high": ["s0", "s2", "s4"], "low": ["s1", "gone"]}
    (where / "discovery.json").write_text(json.dumps({"kind": "clusters", "examples": examples}))
    speakers = sorted({row["speaker"] for row in rows})
    assigned = folder / "assigned.json"
    assigned.write_text(
        json.dumps(
            {
                "cohorts": names,
                "groups": {"high": "bottom", "low": "top"},
                "speakers": {s: names[int(s[1:]) % 2] for s in speakers},
            }
        )
    )
    manifest = folder / "voices.jsonl"
    with open(manifest, "w") as file:
        for i in range(3):
            tone = 0.2 * np.sin(2 * np.pi * (300 + 200 * i) * np.arange(6 * 16_000) / 16_000)
            soundfile.write(folder / f"v{i}.wav", tone, 16_000)
            file.write(json.dumps({"audio_filepath": f"v{i}.wav", "speaker": f"s{i}"}) + "\n")
    scores, out = str(folder / "before.jsonl"), folder / "voices.html"
    command = [*REPORT, scores, "--cohorts", str(where), "--out", str(out)]
    assert cli.main(command) == 2  # whose voice is whose is not known
    command += ["--assigned", str(assigned)]
    assert cli.main(command) == 0
    assert not Page(out.read_text()).of("audio")
    assert cli.main([*command, "--audio", "--data", str(manifest)]) == 0
    page = Page(out.read_text())
    assert_safe(page)
    assert_accessible(page)
    begin = "data:audio/mpeg;base64,"
    sounds = [a["src"] or "" for a in page.of("audio")]
    assert len(sounds) == 3
    assert all(s.startswith(begin) and len(s) < 100_000 for s in sounds)
    path = folder / "heard.mp3"
    path.write_bytes(base64.b64decode(sounds[0].removeprefix(begin)))
    samples, rate = soundfile.read(path)
    assert len(samples) / rate == pytest.approx(4, abs=0.2)
    loudest = np.argmax(np.abs(np.fft.rfft(samples[rate : 2 * rate])))
    assert loudest == pytest.approx(300, abs=2)
    assert "s0" not in page.text
    assert cli.main([*command, "--audio", "--data", str(manifest), "--with-ids"]) == 0
    assert "high (bottom), example 1, s0" in Page(out.read_text()).text


def test_json_on_request(folder: Path, capsys):
    out = folder / "printed.html"
    command = [*REPORT, str(folder / "before.jsonl"), "--by", "gender", "--out", str(out), "--json"]
    assert cli.main(command) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(out.with_suffix(".json").read_text())
    assert "printed.html" in printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "r.html"], "--by COLUMN or --cohorts"),
        (["--by", "accent", "--out", "r.txt"], "end it in .html"),
        (["--by", "accent", "--out", "r.html", "--names", "a", "b"], "--names has 2 for 1"),
        (["--by", "accent", "accent", "--out", "r.html"], "given twice"),
        (["--by", "speed", "--out", "r.html"], "no column 'speed'|no utterance has a column"),
        (["--by", "noise", "--out", "r.html"], "each recording"),
        (["--by", "accent", "--adjust-for", "x", "--out", "r.html"], "no utterance has a column"),
        (["--by", "accent", "--audio", "--out", "r.html"], "go with --cohorts"),
        (["--cohorts", "nowhere", "--out", "r.html"], "holds no cohorts"),
        (["--cohorts", "nowhere", "--audio", "--out", "r.html"], "--data"),
        (["--by", "accent", "--margin", "-1", "--out", "r.html"], "--margin"),
        (["--by", "accent", "--min-speakers", "1", "--out", "r.html"], "--min-speakers"),
    ],
)
def test_mistakes_are_said_in_one_sentence(
    options: list[str], message: str, folder: Path, capsys, monkeypatch
):
    monkeypatch.chdir(folder)
    assert cli.main([*REPORT, "before.jsonl", *options]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "Traceback" not in said
    assert not (folder / "r.html").exists()


def test_help_has_examples(capsys):
    cli.main([*REPORT, "--help"])
    assert "parley fairness report before.jsonl after.jsonl" in capsys.readouterr().out
