"""`parley fairness discover`, `assign` and `units`, from recordings to selected recordings."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.fairness.cohorts import read_cohorts
from parley.fairness.scores import read_scores
from parley.zoo import cli
from parley.zoo.corpus_embeddings import embed_voices
from parley.zoo.scoring import score_into
from parley.zoo.speakers import SpeakerModel, load_speaker_model
from parley.zoo.transcriber import Transcriber
from tones import VoiceCorpus

Output = pytest.CaptureFixture[str]
RATE = 16_000
SPEAKERS, EACH = 24, 6


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 voices with 6 recordings each, who live in the west or in the east."""
    folder = tmp_path_factory.mktemp("voices")
    corpus = VoiceCorpus(SPEAKERS, each=EACH)
    rows = []
    for i, samples in enumerate(corpus.audio):
        soundfile.write(folder / f"{i}.wav", samples, RATE)
        spoken, who = corpus.utterance(i), i // EACH
        rows.append(
            {
                "audio_filepath": f"{i}.wav",
                "text": "turn the light on",
                "speaker": spoken.speaker,
                "gender": spoken.metadata["gender"],
                "side": ("west", "east")[who % 3 > 0],
                "zip": f"{10 + who % 8}",
            }
        )
    path = folder / "voices.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of 360 speakers; those of the north-east are served badly."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("scores") / "scores.jsonl"
    with open(path, "w") as file:
        for s in range(360):
            x, y = rng.uniform(0, 10, 2)
            rate = 0.25 if x > 5 and y > 5 else 0.08
            where: dict[str, Any] = {"longitude": round(x, 3), "latitude": round(y, 3)}
            metadata = where if s % 30 else {}
            metadata |= {
                "accent": "rp" if x > 5 else "us",
                "zip": f"{int(x)}{int(y)}",
                "snr": s % 7,
            }
            for i in range(2):
                words = int(rng.integers(80, 160))
                counts = {"substitutions": int(rng.binomial(words, rate)), "words": words}
                counts |= {"deletions": 0, "insertions": 0}
                line = {"id": f"{s}-{i}", "speaker": f"s{s}", "duration": 3.0, "metadata": metadata}
                file.write(json.dumps(line | counts) + "\n")
    return path


def run(*arguments: object) -> int:
    return cli.main(["fairness", *map(str, arguments)])


REGIONS = ("--by", "regions", "--min-region-speakers", 15, "--min-region-words", 1000)


def test_regions_from_scores_to_an_assignment(lines: Path, manifest: Path, tmp_path: Path, capsys):
    folder = tmp_path / "regions"
    options = ("--scores", lines, *REGIONS, "--min-speakers", 10, "--max-regions", 6)
    assert run("discover", *options, "--out", folder) == 0
    printed = capsys.readouterr().out
    assert "12 speakers are of no cohort: coordinates are missing" in printed
    assert "by chance" in printed
    record = json.loads((folder / "discovery.json").read_text())
    assert record["gap"]["bottom"]["value"] > 20
    assert record["gap"]["p"] < 0.01
    assert record["without_cohort"] == 12
    cohorts, ranking = read_cohorts(folder)
    worst = cohorts.names.index(ranking.order[0])
    west, _, south, _ = cohorts.arrays()["boxes"][worst]
    assert west > 4
    assert south > 4
    for picture in ("map.png", "ranking.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    # The same again, as JSON, into the same folder.
    assert run("discover", *options, "--out", folder, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in again.items() if k != "command"} == {
        k: v for k, v in record.items() if k != "command"
    }
    # Speakers that nobody has seen: one on each crossing of a grid.
    grid = [(x, y) for x in (1, 6, 7, 8, 9) for y in (1, 6, 7, 8, 9)]
    common = {"audio_filepath": "0.wav", "text": "a"}
    rows = [common | {"speaker": f"n{x}{y}", "longitude": x, "latitude": y} for x, y in grid]
    new = manifest.with_name("new.jsonl")
    new.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assigned = tmp_path / "sub" / "assigned.json"
    assert run("assign", folder, "--data", new, "--out", assigned) == 0
    assert "25 of 25 speakers" in capsys.readouterr().err
    selected = open_corpus(f"{new}?cohorts={assigned}&cohort_group=bottom")
    found = {selected.utterance(i).speaker for i in range(len(selected))}
    assert found
    assert found <= {f"n{x}{y}" for x, y in grid if x > 5 and y > 5}


def test_columns_are_crossed(lines: Path, tmp_path: Path, capsys: Output):
    out = tmp_path / "crossed"
    assert run("discover", "--scores", lines, "--by", "accent", "zip", "--out", out, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "columns"
    assert all(c["name"].split(" / ")[0] in ("rp", "us") for c in record["cohorts"])
    assert record["gap"] is None  # nobody has twenty
    assert {c["discovery"]["speakers"] for c in record["cohorts"]} == {0}
    assert run("discover", "--scores", lines, "--by", "accent", "--out", out) == 0
    assert "rp" in capsys.readouterr().out


def test_areas_by_their_majority(lines: Path, manifest: Path, tmp_path: Path, capsys: Output):
    table = tmp_path / "tables" / "zip.csv"
    assert run("units", "--data", manifest, "--of", "side", "gender", "--out", table) == 0
    assert table.read_text().startswith("zip,side:east,side:west,gender:female,gender:male\n10,")
    rows = ["zip,bad,good"]
    rows += [
        f"{x}{y},{int(x > 4 and y > 4)},{int(x < 5 or y < 5)}" for x in range(10) for y in range(10)
    ]
    table.write_text("\n".join(rows))
    out = tmp_path / "areas"
    assert run("discover", "--scores", lines, "--by", "units", "--units", table, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "partitions by gap on the discovery speakers: bad" in printed
    assert read_cohorts(out)[1].order[0] == "bad"


@pytest.mark.slow
def test_a_model_is_run_and_a_stopped_run_goes_on(
    tiny_folder: Path, manifest: Path, tmp_path: Path, capsys: Output
):
    out = tmp_path / "sides"
    options = ("--data", manifest, "--by", "side", "--min-speakers", 2, "--out", out)
    assert run("discover", tiny_folder, *options) == 0
    printed = capsys.readouterr().out
    record = json.loads((out / "discovery.json").read_text())
    assert {c["name"] for c in record["cohorts"]} == {"west", "east"}
    scored = (out / "scores.jsonl").read_text().splitlines()
    assert len(scored) == SPEAKERS * EACH
    # A process that died while writing: half of it is there, and a torn line.
    half = "\n".join(scored[::2]) + "\n" + scored[1][:40]
    (out / "scores.jsonl").write_text(half)
    assert run("discover", tiny_folder, *options) == 0
    assert capsys.readouterr().out == printed
    assert sorted((out / "scores.jsonl").read_text().splitlines()) == sorted(scored)
    other = f"{manifest}?gender=male"
    assert run("discover", tiny_folder, "--data", other, "--by", "side", "--out", out) == 2
    assert "was made with data" in capsys.readouterr().err


def test_only_what_is_missing_is_recognised(model: Transcriber, manifest: Path, tmp_path: Path):
    corpus = open_corpus(f"{manifest}?limit=20")
    path = tmp_path / "scores.jsonl"
    assert score_into(path, model, corpus, options={}) == []
    whole = read_scores(path)
    kept = path.read_text().splitlines()[:15]
    path.write_text("\n".join(kept) + "\n")
    heard: list[float] = []
    score_into(path, model, corpus, options={}, on_audio=heard.append)
    known = {json.loads(line)["id"] for line in kept}
    seconds = sum(u.duration for u in map(corpus.utterance, range(20)) if u.id in known)
    assert heard[0] == pytest.approx(seconds)
    assert (read_scores(path).errors == whole.errors).all()
    with pytest.raises(InputError, match="was made with data"):
        score_into(path, model, corpus, options={"data": "other"})


@pytest.mark.slow
def test_voices_are_clustered_and_assigned(
    tiny_folder: Path, speaker_folder: Path, manifest: Path, tmp_path: Path, capsys: Output
):
    out = tmp_path / "voices"
    options = ("--data", manifest, "--by", "embeddings", "--clusters", 2, "--min-speakers", 1)
    options += ("--speaker-model", speaker_folder, "--out", out, "--json")
    assert run("discover", tiny_folder, *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["clusters"] == 2
    assert -1 <= record["stability"] <= 1
    assert [len(found) for found in record["examples"].values()] == [5, 5]
    assert all(c["description"]["means"]["pitch"] > 60 for c in record["cohorts"])
    assigned = tmp_path / "assigned.json"
    assert run("assign", out, "--data", manifest, "--out", assigned, "--json") == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts == {c["name"]: c["description"]["speakers"] for c in record["cohorts"]}
    few = f"{manifest}?limit=4"
    assert run("assign", out, "--data", few, "--out", assigned) == 2
    assert "fewer than 5 utterances of theirs can be heard" in capsys.readouterr().err
    # Another model's embeddings mean something else.
    definition = json.loads((out / "cohorts.json").read_text())
    definition["model"][1] = "0" * 16
    (out / "cohorts.json").write_text(json.dumps(definition))
    assert run("assign", out, "--data", manifest, "--out", assigned) == 2
    assert "embeddings of two models have nothing in common" in capsys.readouterr().err


def test_embeddings_are_kept(
    speaker_folder: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    speaker_model = load_speaker_model(speaker_folder)
    corpus = open_corpus(f"{manifest}?limit=30")
    monkeypatch.setattr("parley.zoo.corpus_embeddings._PIECE", 8)
    first = embed_voices(speaker_model, corpus, tmp_path)
    pieces = sorted(tmp_path.glob("*.safetensors"))
    assert len(pieces) == 4
    direct = speaker_model.embed([corpus.samples(i) for i in range(30)])
    np.testing.assert_allclose(first.embeddings, direct, atol=1e-5)
    pieces[0].unlink()
    pieces[1].write_bytes(b"damaged")
    seen: list[int] = []
    embed = SpeakerModel.embed_samples

    def counted(self: SpeakerModel, recordings):
        seen.append(len(recordings))
        return embed(self, recordings)

    monkeypatch.setattr(SpeakerModel, "embed_samples", counted)
    again = embed_voices(speaker_model, corpus, tmp_path)
    assert sum(seen) in (14, 16)  # of 8, 8, 8 and 6
    np.testing.assert_array_equal(first.embeddings, again.embeddings)
    np.testing.assert_array_equal(first.pitch, again.pitch)


def test_a_recording_that_cannot_be_read_is_left_out(
    tiny_folder: Path, manifest: Path, tmp_path: Path, capsys: Output
):
    folder = Path(shutil.copytree(manifest.parent, tmp_path / "copy"))
    (folder / "3.wav").write_text("this is not audio")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    stated = [json.dumps(row | {"duration": 0.6}) for row in rows]
    (folder / "voices.jsonl").write_text("\n".join(stated))
    out = tmp_path / "out"
    options = ("--data", folder / "voices.jsonl", "--by", "side", "--out", out, "--json")
    assert run("discover", tiny_folder, *options) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["speakers"] == SPEAKERS
    assert "left out 3.wav" in captured.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "--by names nothing"),
        (("--by", "regions", "accent"), "--by regions stands alone"),
        (("--by", "accent"), "nothing to look at"),
        (("--by", "embeddings", "--scores", "s.jsonl"), "--by embeddings hears the speakers"),
        (("--by", "units", "--scores", "s.jsonl"), "--by units and --units FILE belong together"),
        (("--by", "accent", "--scores", "s.jsonl"), "s.jsonl cannot be read"),
        (("--by", "accent", "--scores", "s", "--share", "0.7"), "--share 0.7 is no use"),
        (("--by", "accent", "--scores", "s", "--min-speakers", "0"), "--min-speakers 0 is no use"),
        (("--by", "regions", "--scores", "s", "--max-regions", "1"), "--max-regions 1 is no use"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], sentence: str, tmp_path: Path, capsys: Output):
    extra = () if arguments else ("--by",)
    assert run("discover", *arguments, *extra, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_folders_that_hold_something_else(lines: Path, tmp_path: Path, capsys: Output):
    out = tmp_path / "out"
    assert run("discover", "--scores", lines, "--by", "accent", "--out", out) == 0
    capsys.readouterr()
    assert run("discover", "--scores", lines, *REGIONS, "--out", out) == 2
    assert "holds cohorts of columns: give another --out" in capsys.readouterr().err
    # What is damaged is made anew.
    (out / "cohorts.json").write_text("{")
    assert run("discover", "--scores", lines, "--by", "accent", "--out", out) == 0
    capsys.readouterr()
    assert run("discover", "--scores", lines, "--by", "accent", "--out", lines) == 2
    assert "is a file: give --out a folder" in capsys.readouterr().err
    assert run("assign", tmp_path, "--data", "words", "--out", tmp_path / "a.json") == 2
    assert "holds no cohorts" in capsys.readouterr().err


def test_conversations_are_refused(
    tiny_folder: Path, manifest: Path, tmp_path: Path, capsys: Output
):
    data = f"{manifest}?turns=2&draws=4"
    out = tmp_path / "out"
    assert run("discover", tiny_folder, "--data", data, "--by", "gender", "--out", out) == 2
    assert "has conversations, whose errors are of several speakers" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["discover", "assign", "units"])
def test_commands_explain_themselves(name: str, capsys: Output):
    assert run(name, "--help") == 0
    assert (
        f"parley fairness {name} "
        in capsys.readouterr().out.split("usage:", 1)[1].split("\n", 1)[1]
    )
