"""Manifests: one bad row costs that row, and its place and reason are told."""

import json

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus, quarantined
from parley.data.errors import InputError


@pytest.fixture
def folder(tmp_path, make_tone):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", make_tone(0.5 + i / 10, rate=8000), 8000)
    return tmp_path


def _manifest(folder, *rows, name="m.jsonl"):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def test_rows_and_metadata(folder):
    path = _manifest(
        folder,
        {"audio_filepath": "0.wav", "text": "Zero!", "speaker": "ann", "mood": "glad", "take": 7},
        {"audio_filepath": str(folder / "1.wav"), "text": "one", "duration": 0.6},
        {"audio_filepath": "2.wav", "text": "two", "offset": 0.2, "duration": 0.25},
        {"audio_filepath": "2.wav", "text": "two", "offset": 0.2},
    )
    corpus = open_corpus(path)
    rows = [corpus.utterance(i) for i in range(4)]
    assert rows[0].metadata == {"mood": "glad", "take": 7}
    assert (rows[0].speaker, rows[0].text, rows[0].id) == ("ann", "Zero!", "0.wav")
    assert [row.duration for row in rows] == pytest.approx([0.5, 0.6, 0.25, 0.5])
    assert [len(corpus.samples(i)) for i in range(4)] == [8000, 9600, 4000, 8000]
    assert len({row.id for row in rows[:3]}) == 3


def test_bad_rows_go_into_quarantine_and_the_rest_is_used(folder):
    (folder / "damaged.wav").write_bytes(b"RIFF nothing")
    path = _manifest(
        folder,
        {"audio_filepath": "0.wav", "text": "zero"},
        '{"audio_filepath": "0.wav", "text"',
        {"audio_filepath": "0.wav"},
        {"audio_filepath": "0.wav", "text": " ... "},
        {"audio_filepath": "0.wav", "text": 5},
        {"text": "no file"},
        {"audio_filepath": "gone.wav", "text": "gone"},
        {"audio_filepath": "gone.wav", "text": "gone", "duration": 1.0},
        {"audio_filepath": "damaged.wav", "text": "damaged"},
        {"audio_filepath": "a\0b.wav", "text": "null", "duration": 1.0},
        {"audio_filepath": ".", "text": "folder", "duration": 1.0},
        {"audio_filepath": "1.wav", "text": "late", "offset": 9.0},
        "[1, 2]",
        "",
        {"audio_filepath": "1.wav", "text": "one"},
    )
    corpus = open_corpus(path)
    assert [corpus.utterance(i).text for i in range(len(corpus))] == ["zero", "one"]
    reasons = {int(row.where.rpartition(":")[2]): row.reason for row in quarantined(corpus)}
    assert list(reasons) == list(range(2, 14))
    for line, reason in [
        (2, "broken JSON"),
        (3, "no text"),
        (4, "no text"),
        (5, "no text"),
        (6, "no audio_filepath"),
        (7, "no such recording"),
        (8, "missing"),
        (9, "not audio"),
        (10, "file"),
        (11, "missing"),
        (12, "beyond the end"),
        (13, "not a JSON object"),
    ]:
        assert reason in reasons[line], (line, reasons[line])
    assert str(quarantined(corpus)[0]).startswith(f"{path}:")


def test_a_manifest_of_bad_rows_is_an_error_that_gives_the_first_reason(folder):
    path = _manifest(folder, {"audio_filepath": "gone.wav", "text": "x"}, "{")
    with pytest.raises(InputError, match=r"none of its 2 rows can be used \(the first: .*\)\.$"):
        open_corpus(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00garbage\n",
        b"[1, 2",
        b"[" * 100_000,
        b"audio_filepath,text",
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_garbage_is_one_sentence(tmp_path, content, suffix):
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_corpus(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf8_costs_that_line(folder):
    row = json.dumps({"audio_filepath": "0.wav", "text": "zero"}).encode()
    (folder / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + row + b"\n\xff\xfe\n" + row)
    corpus = open_corpus(str(folder / "m.jsonl"))
    assert len(corpus) == 2
    assert quarantined(corpus)[0].where.endswith(":2")


def test_wrong_durations_are_measured_instead(folder):
    rows = [
        {"audio_filepath": "0.wav", "text": "zero", "duration": value}
        for value in (-1, 0, "long", None, float("nan"))
    ]
    corpus = open_corpus(_manifest(folder, *rows))
    assert [corpus.utterance(i).duration for i in range(5)] == [0.5] * 5


def test_json_array(folder):
    path = _manifest(folder, '[{"audio_filepath": "0.wav", "text": "zero"},\n 3]', name="m.json")
    corpus = open_corpus(path)
    assert len(corpus) == 1
    assert quarantined(corpus)[0].where == f"{path}[2]"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(folder, separator):
    rows = [
        ["audio_filepath", "text", "duration", "speaker", "take"],
        ["0.wav", "zero", "0.5", "ann", "3"],
        ["1.wav", "one", "", "bob", "12"],
        ["gone.wav", "two", "", "bob", "13"],
        ["2.wav"],
    ]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    (folder / "m.csv").write_text(text, encoding="utf-8", newline="")
    corpus = open_corpus(f"{folder}/m.csv?take=10-13")
    assert len(corpus) == 1  # numbers of a CSV are numbers too
    assert corpus.utterance(0).speaker == "bob"
    assert corpus.utterance(0).duration == pytest.approx(0.6)
    assert [row.where.rpartition(":")[2] for row in quarantined(corpus)] == ["4", "5"]


def test_csv_without_the_column(folder):
    (folder / "m.csv").write_text("path,text\n0.wav,zero\n")
    with pytest.raises(InputError, match="no column audio_filepath; its columns: path, text"):
        open_corpus(f"{folder}/m.csv")


def test_text_is_not_needed_where_nobody_asks(folder):
    path = _manifest(folder, {"audio_filepath": "0.wav"})
    assert open_corpus(path, require_text=False).utterance(0).text == ""


def test_folder(folder, make_tone):
    (folder / "sub").mkdir()
    soundfile.write(folder / "sub" / "a.FLAC", make_tone(0.3), 16_000, format="FLAC")
    (folder / "notes.txt").write_text("not a recording")
    (folder / "broken.wav").write_bytes(b"broken")
    corpus = open_corpus(str(folder))
    assert [corpus.utterance(i).id for i in range(len(corpus))] == [
        *("0.wav", "1.wav", "2.wav"),
        "sub/a.FLAC",
    ]
    assert np.array_equal(corpus.samples(3), make_tone(0.3))
    assert [row.where for row in quarantined(corpus)] == ["broken.wav"]


def test_folder_without_recordings(tmp_path):
    with pytest.raises(InputError, match="holds no recordings"):
        open_corpus(str(tmp_path))
