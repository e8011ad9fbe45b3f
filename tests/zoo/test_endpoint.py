"""Where utterances end."""

from itertools import pairwise

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.zoo import endpoint
from parley.zoo.endpoint import REHEARD_S, EndpointRules, Listener
from parley.zoo.transcript import HeardTurn, Transcript, Word

RULES = EndpointRules()


@pytest.mark.parametrize(
    ("seconds", "spoke_at", "ended"),
    [
        (4.9, None, False),
        (5.0, None, True),  # nothing at all
        (3.0, 2.3, False),
        (3.1, 2.3, True),  # a pause
        (14.0, 13.7, False),
        (15.0, 14.74, True),  # long: a short pause will do
        (16.0, 15.9, False),
        (30.0, 30.0, True),  # too long
    ],
)
def test_rules(seconds: float, spoke_at: float | None, ended: bool):
    assert RULES.ended(seconds, spoke_at) == ended


def cut(listener: Listener, samples: np.ndarray, pieces: int):
    segments = []
    for piece in np.array_split(samples, pieces):
        segments += listener.feed(piece)
    return segments + listener.finish()


def test_without_rules_the_whole_is_one(model, sound):
    samples = sound(2.5, 1)
    [segment] = cut(Listener(model), samples, 7)
    stream = model.stream()
    stream.feed(samples)
    alone = stream.finish()
    assert segment.transcript.text == alone.text
    # The confidences differ in their last bits where the pieces do.
    times = [[(w.start, w.end) for w in t.words] for t in (segment.transcript, alone)]
    assert times[0] == times[1]
    assert (segment.start, segment.end) == (0.0, 2.5)


def test_utterances_are_those_of_streams_begun_where_they_begin(model, sound):
    samples = np.concatenate([sound(1.0, 1), np.zeros(24_000, np.int16), sound(1.3, 2)])
    rules = EndpointRules(pause=0.4, silence=1.0)
    segments = cut(Listener(model, rules), samples, 9)
    assert len(segments) > 1
    for segment in segments:
        begin, end = (round(16_000 * t) for t in (segment.start, segment.end))
        stream = model.stream()
        stream.feed(samples[begin:end])
        # After a pause nothing is added: what would come is the next utterance's.
        alone = stream.finish(tail=segment is segments[-1])
        assert alone.text == segment.transcript.text
        for word in segment.transcript.words:
            assert segment.start <= word.start <= word.end <= segment.end + 1e-6
    for one, other in pairwise(segments):
        assert one.end - REHEARD_S <= other.start < one.end
        assert one.transcript.words[-1].end <= other.transcript.words[0].start + 1e-6


def test_silence_gives_nothing(model):
    assert cut(Listener(model, EndpointRules(silence=0.5)), np.zeros(0, np.int16), 1) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_segments_do_not_depend_on_how_the_audio_comes(model, sound, seed: int):
    samples = np.concatenate([sound(1.0, 1), np.zeros(16_000, np.int16), sound(1.3, 2)])
    rules = EndpointRules(pause=0.4, silence=1.0)
    whole = cut(Listener(model, rules), samples, 1)
    at = np.sort(np.random.default_rng(seed).integers(0, len(samples), 40))
    listener, ragged = Listener(model, rules), []
    for piece in np.split(samples, at):
        ragged += listener.feed(piece)
    ragged += listener.finish()
    assert [(s.start, s.end, s.transcript.text) for s in ragged] == [
        (s.start, s.end, s.transcript.text) for s in whole
    ]


def test_a_bad_feed_takes_nothing(model, sound):
    samples = sound(1.2, 3)
    listener = Listener(model, RULES)
    listener.feed(samples[:9_000])
    bad = np.zeros(8_000, np.float32)
    bad[5_000] = np.nan
    for piece in (bad, np.zeros((2, 8_000), np.int16)):
        with pytest.raises(InputError):
            listener.feed(piece)
    [segment] = listener.feed(samples[9_000:]) + listener.finish()
    assert segment.transcript.text == model.transcribe(samples).text


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_pause_of_nothing_is_refused(seconds: float):
    with pytest.raises(InputError, match="pause is"):
        EndpointRules(pause=seconds)


def test_times_of_words_and_turns_are_the_streams():
    word = Word("yes", 0.25, 0.5, 0.9)
    heard = Transcript("yes", (word,), 1.0, turns=(HeardTurn("yes", 0.125, 0.75, 0, (word,)),))
    found = endpoint.segment(heard, 8.0, 9.0)
    (turn,) = found.transcript.turns
    assert (found.start, found.end, turn.start, turn.end) == (8.0, 9.0, 8.125, 8.75)
    assert [(w.start, w.end) for w in (*found.transcript.words, *turn.words)] == [(8.25, 8.5)] * 2
