"""`parley mix`: a set of files that reads back as it was drawn."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus
from parley.data.segments import read_rttm, read_seglst, read_stm
from parley.data.turns import overlap_share, turns_of
from parley.zoo import cli

Output = pytest.CaptureFixture[str]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Conversations of four speakers' tones."""
    monkeypatch.setenv("PARLEY_DATA", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    rows = []
    for i in range(16):
        time = np.arange(round(rng.uniform(1.0, 2.0) * 16_000)) / 16_000
        tone = np.pad(6000 * np.sin(2 * np.pi * (200 + 50 * i) * time), 3200)
        soundfile.write(tmp_path / f"{i}.flac", tone.astype(np.int16), 16_000)
        row = {"audio_filepath": f"{i}.flac", "text": f"tone {i}", "speaker": f"s{i % 4}"}
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "manifest.jsonl").write_text("".join(rows))
    return f"{tmp_path}/manifest.jsonl?turns=2-4&overlap=20&draws=6&seed=7"


def test_a_set_reads_back(spec: str, tmp_path: Path, capsys: Output):
    out = tmp_path / "set"
    assert cli.main(["mix", spec, "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    drawn, read = open_corpus(spec), open_corpus(f"{out}/manifest.jsonl")
    assert len(read) == summary["recordings"] == 6
    references = [
        (out / "reference.seglst.json", read_seglst),
        (out / "reference.stm", read_stm),
        (out / "reference.rttm", read_rttm),
    ]
    sessions = [reader(path.read_text(), path.name) for path, reader in references]
    shares, count = [], 0
    for i in range(6):
        utterance = read.utterance(i)
        turns = turns_of(utterance)
        assert turns == turns_of(drawn.utterance(i))
        assert utterance.text == drawn.utterance(i).text
        assert utterance.speaker == drawn.utterance(i).speaker
        assert utterance.metadata["source"] == drawn.utterance(i).id
        assert np.array_equal(read.samples(i), drawn.samples(i))
        assert sessions[0][utterance.id] == sessions[1][utterance.id] == list(turns)
        assert [(t.start, t.end, t.speaker) for t in sessions[2][utterance.id]] == [
            (t.start, t.end, t.speaker) for t in turns
        ]
        shares.append(overlap_share(turns))
        count += len(turns)
    assert summary["turns"] == count
    assert summary["overlap"] == pytest.approx(np.mean(shares), abs=1e-3) == pytest.approx(0.2, 0.1)
    assert len(open_corpus(f"{out}/manifest.jsonl?overlap=0.18-0.22")) == 6


def test_a_command_that_was_stopped_goes_on(
    spec: str, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
):
    from parley.data.conversations import ConversationCorpus

    out = tmp_path / "set"
    render, made = ConversationCorpus.samples, []

    def stops(self, i):
        made.append(i)
        if len(made) == 4:
            raise KeyboardInterrupt
        return render(self, i)

    monkeypatch.setattr(ConversationCorpus, "samples", stops)
    assert cli.main(["mix", spec, "--out", str(out)]) == 130
    assert sorted(path.name for path in out.iterdir()) == [
        "00000.flac", "00001.flac", "00002.flac", "mix.json",
    ]  # fmt: skip
    assert cli.main(["mix", spec, "--out", str(out)]) == 0
    assert made == [0, 1, 2, 3, 3, 4, 5]
    assert len(open_corpus(f"{out}/manifest.jsonl")) == 6
    assert "6 recordings with" in capsys.readouterr().err


def test_count_may_be_more_than_an_epoch(spec: str, tmp_path: Path):
    assert cli.main(["mix", spec, "--count", "8", "--out", str(tmp_path / "set")]) == 0
    assert len(open_corpus(f"{tmp_path}/set/manifest.jsonl")) == 8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda spec: [spec.split("?")[0]], "0.flac has no turns: give a corpus of conversations"),
        (lambda spec: [spec, "--count", "0"], "--count 0 is no use"),
        (lambda spec: [spec.split("?")[0], "--count", "17"], "has 16 recordings: --count can be"),
    ],
)
def test_a_mistake_leaves_nothing(spec, change, sentence, tmp_path: Path, capsys: Output):
    out = tmp_path / "set"
    assert cli.main(["mix", *change(spec), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_nothing_is_overwritten(spec: str, tmp_path: Path, capsys: Output):
    (tmp_path / "file").touch()
    assert cli.main(["mix", spec, "--out", str(tmp_path / "file")]) == 2
    assert "is a file: give a folder" in capsys.readouterr().err
    assert cli.main(["mix", spec, "--out", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert cli.main(["mix", spec, "--count", "1", "--out", str(tmp_path / "set")]) == 0
    assert cli.main(["mix", spec, "--count", "2", "--out", str(tmp_path / "set")]) == 2
    assert "holds another set" in capsys.readouterr().err
