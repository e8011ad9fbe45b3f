"""A model of two channels: streams, pools and batches alike, its score, report and picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parley import zoo
from parley.data.corpus import Utterance
from parley.data.errors import InputError
from parley.data.turns import Turn
from parley.zoo.cli import main
from parley.zoo.conversations import evaluate_conversations, has_turns, latency_record
from parley.zoo.decoding import Decoding
from parley.zoo.transcriber import Transcriber

RATE = 16_000
TEXTS = ("turn the light on in the kitchen", "set a timer for ten minutes")


@pytest.fixture(scope="module")
def sts(sts_folder: Path) -> Transcriber:
    return zoo.load(sts_folder)


class Conversations:
    """Sounds that are said to be conversations of two turns."""

    name = "two turns each"

    def __init__(self, sound: Any, count: int = 3):
        self.audio = [sound(1.5 + 0.3 * i, i) for i in range(count)]

    def __len__(self) -> int:
        return len(self.audio)

    def utterance(self, i: int) -> Utterance:
        turns = (Turn(0.1, 0.7, TEXTS[0], "ann"), Turn(0.5, 1.2, TEXTS[1], "bob"))
        seconds = len(self.audio[i]) / RATE
        known = {"turns": turns, "overlap": 0.18 * i, "turn_count": 2}
        return Utterance(f"c{i}", " ".join(TEXTS[:2]), seconds, "ann+bob", known)

    def samples(self, i: int) -> np.ndarray:
        return self.audio[i]


def test_turns_on_both_channels(sts, sound):
    transcript = sts.transcribe(sound(2.4, 1))
    assert {turn.channel for turn in transcript.turns} == {0, 1}
    assert any(all(turn.marked) for turn in transcript.turns)
    assert transcript.text == " ".join(t.text for t in transcript.turns if t.text)
    assert [t.start for t in transcript.turns] == sorted(t.start for t in transcript.turns)
    spoken = sorted(w.text for t in transcript.turns for w in t.words)
    assert spoken == sorted(w.text for w in transcript.words)


@pytest.mark.parametrize("samples", [640, 3333, 10**6])
def test_a_stream_gives_the_turns_of_the_whole(sts, sound, samples: int):
    for seed, seconds in enumerate([0.9, 2.7]):
        audio = sound(seconds, seed)
        whole = sts.transcribe(audio)
        stream, closed = sts.stream(), 0
        for at in range(0, len(audio), samples):
            stream.feed(audio[at : at + samples])
            assert len(stream.turns) >= closed
            closed = len(stream.turns)
        result = stream.finish()
        assert result.text == whole.text
        times = [[(t.start, t.end, t.channel) for t in r.turns] for r in (result, whole)]
        assert times[0] == times[1]


def test_a_pool_gives_the_turns_of_the_whole(sts, sound):
    pool = sts.pool(3)
    audios = [sound(1.1, 5), sound(1.9, 6)]
    sessions = [pool.open() for _ in audios]
    for session, audio in zip(sessions, audios, strict=True):
        session.feed(audio)
    while pool.run():
        pass
    for session, audio in zip(sessions, audios, strict=True):
        whole = sts.transcribe(audio)
        result = session.finish()
        assert [(t.text, t.channel, t.start) for t in result.turns] == [
            (t.text, t.channel, t.start) for t in whole.turns
        ]


@pytest.mark.slow
def test_a_beam_hears_turns_too(sts_folder, sound):
    model = zoo.load(sts_folder, decoding=Decoding(beam=3))
    audio = sound(1.3, 2)
    whole = model.transcribe(audio)
    assert {turn.channel for turn in whole.turns} == {0, 1}
    stream = model.stream()
    for at in range(0, len(audio), 3333):
        stream.feed(audio[at : at + 3333])
    assert stream.finish().text == whole.text


def test_the_score_of_conversations(sts, sound):
    pytest.importorskip("meeteval", reason="ORC-WER needs meeteval")
    corpus = Conversations(sound)
    assert has_turns(corpus)
    evaluation = evaluate_conversations(sts, corpus)
    total = evaluation.total
    words = len(" ".join(TEXTS[:2]).split())
    assert total.words.words == 3 * words
    assert total.turns.reference == 6
    assert evaluation.score.utterances == 3
    found = sum(len(c.heard) for c in evaluation.conversations)
    assert total.turns.difference == found - 6
    ended = sum(turn.marked[1] for c in evaluation.conversations for turn in c.heard)
    assert len(total.ends.latencies) + total.ends.false_alarms == ended
    assert set(evaluation.by("overlap")) == {"0 %", "20 %", "40 %"}
    with pytest.raises(InputError, match="no column 'accent'"):
        evaluation.by("accent")
    numbers = latency_record(total.ends)
    assert numbers["p50"] is not None


def test_a_model_of_one_talker_is_scored_too(model, sound):
    pytest.importorskip("meeteval", reason="ORC-WER needs meeteval")
    evaluation = evaluate_conversations(model, Conversations(sound, 2))
    assert all(len(c.heard) == 1 for c in evaluation.conversations)
    assert evaluation.total.ends.latencies == ()
    assert evaluation.total.ends.missed == 4


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, sound) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    corpus, rows = Conversations(sound), []
    for i in range(len(corpus)):
        soundfile.write(folder / f"c{i}.wav", corpus.audio[i], RATE)
        utterance = corpus.utterance(i)
        turns = [
            {"start": t.start, "end": t.end, "text": t.text, "speaker": t.speaker}
            for t in utterance.metadata["turns"]
        ]
        rows.append({"audio_filepath": f"c{i}.wav", "text": utterance.text, "turns": turns})
    path = folder / "talk.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_parley_evaluate(sts_folder, manifest, capsys, tmp_path):
    pytest.importorskip("meeteval", reason="ORC-WER needs meeteval")
    out = tmp_path / "out.jsonl"
    assert main(["evaluate", str(sts_folder), "--data", str(manifest), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for part in ("ORC-WER", "end of turn", "speech activity", "turns right"):
        assert part in printed
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [len(row["turns"]) for row in rows] == [2, 2, 2]
    assert main(["evaluate", str(sts_folder), "--data", str(manifest), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["words"] == sum(len(t.split()) for t in TEXTS[:2]) * 3
    assert set(record["end_latency"]) >= {"p50", "p90", "miss", "early", "false_alarm"}
    assert main(["evaluate", str(sts_folder), "--data", str(manifest), "--calibrate"]) == 2
    assert "--calibrate" in capsys.readouterr().err


def test_parley_inspect_draws_a_conversation(sts_folder, manifest, capsys, tmp_path):
    for source in (["--data", str(manifest), "--item", "1"], [str(manifest.parent / "c0.wav")]):
        picture = tmp_path / f"{len(source)}.png"
        assert main(["inspect", str(sts_folder), *source, "--out", str(picture)]) == 0
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert "channel 1" in capsys.readouterr().out
    arguments = ["--data", str(manifest), "--item", "7", "--out", str(tmp_path / "x.png")]
    assert main(["inspect", str(sts_folder), *arguments]) == 2
    assert "items 0 to 2" in capsys.readouterr().err


def test_parley_transcribe_names_speakers(
    sts_folder, tiny_folder, manifest, sound, capsys, tmp_path
):
    talk = str(manifest.parent / "c2.wav")
    command = ["transcribe", str(sts_folder), talk, "--speakers"]
    assert main([*command, "--format", "json", "--words", "--max-speakers", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {turn["speaker"] for turn in record["turns"]} <= {"speaker 1", "speaker 2"}
    assert all("words" in turn for turn in record["turns"])
    assert main([*command, "--out", f"{tmp_path}/who/", "--format", "rttm"]) == 0
    [written] = (tmp_path / "who").glob("*.rttm")
    assert written.read_text().startswith("SPEAKER ")
    assert main([*command, "--out", str(tmp_path / "talk.seglst")]) == 0
    assert {"session_id", "words"} <= json.loads((tmp_path / "talk.seglst").read_text())[0].keys()
    capsys.readouterr()
    for arguments, message in [
        (["transcribe", str(tiny_folder), talk, "--speakers"], "hears one talker"),
        (["transcribe", str(tiny_folder), talk, "--format", "stm"], "hears one talker"),
        (["transcribe", str(sts_folder), talk, "--enrol", "ann=a.wav"], "belong to --speakers"),
        ([*command, "--enrol", "ann"], "NAME=FILE"),
        ([*command, "--enrol", f"ann={manifest.parent / 'c0.wav'}"], "ann"),
    ]:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_hears_the_same_turns(sts, sts_folder, sound, tmp_path):
    assert main(["export", str(sts_folder), "--to", str(tmp_path / "export")]) == 0
    exported = zoo.load(tmp_path / "export")
    audio = sound(1.7, 3)
    expected = sts.transcribe(audio).turns
    pool = exported.pool(3)
    session = pool.open()
    session.feed(audio)
    while pool.run():
        pass
    for found in (exported.transcribe(audio).turns, session.finish().turns):
        assert [(t.text, t.channel, t.start, t.end) for t in found] == [
            (t.text, t.channel, t.start, t.end) for t in expected
        ]
