"""Many sessions in one step: the text of each is that of a stream alone."""

import jax
import numpy as np
import pytest

from parley.data.errors import InputError
from parley.zoo import recognizer as recognizer_module
from parley.zoo.decoding import Decoding
from parley.zoo.endpoint import EndpointRules, Listener
from parley.zoo.pool import SessionPool
from parley.zoo.transcriber import Transcriber

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def audio(sound) -> list[np.ndarray]:
    return [sound(0.3 + 0.23 * (seed % 6), seed) for seed in range(14)]


def play(pool: SessionPool, audio: list[np.ndarray], seed: int) -> list[str]:
    """Recordings come and go as slots are free, in ragged pieces; their texts."""
    rng = np.random.default_rng(seed)
    texts, waiting, open_sessions = {}, list(enumerate(audio)), []
    while waiting or open_sessions:
        while waiting and pool.open_sessions < pool.slots and rng.random() < 0.8:
            number, samples = waiting.pop(0)
            open_sessions.append([number, pool.open(source=str(number)), samples])
        for entry in list(open_sessions):
            number, session, samples = entry
            size = int(rng.integers(0, 9_000))
            session.feed(samples[:size])
            entry[2] = samples[size:]
            if not len(entry[2]):
                texts[number] = session.finish().text
                open_sessions.remove(entry)
        for _ in range(rng.integers(0, 4)):
            pool.run()
    return [texts[number] for number in range(len(audio))]


def programs() -> int:
    """Compiled versions of the streaming step."""
    return recognizer_module._step._cache_size()  # type: ignore[attr-defined]


def test_text_is_that_of_a_stream_alone_and_nothing_is_compiled(
    model: Transcriber, audio: list[np.ndarray]
):
    expected = []
    for samples in audio:
        stream = model.stream()
        stream.feed(samples)
        expected.append(stream.finish().text)
    assert len(set(expected)) > 10
    pool = model.pool(4)
    assert play(pool, audio[:2], seed=9) == expected[:2]
    compiled = programs()
    assert play(pool, audio, seed=0) == expected
    assert play(pool, audio, seed=1) == expected
    assert programs() == compiled


def test_beams_too(tiny_folder, audio: list[np.ndarray]):
    from parley import zoo

    model = zoo.load(tiny_folder, decoding=Decoding(beam=3))
    expected = [str(result) for result in model.transcribe(audio[:5])]
    assert play(model.pool(2), audio[:5], seed=2) == expected


def test_a_step_hears_all_that_wait(model: Transcriber, audio: list[np.ndarray]):
    pool = model.pool(3)
    assert pool.run() == 0
    sessions = [pool.open() for _ in range(3)]
    step = round(pool.step_s * 16_000)
    sessions[0].feed(audio[0][: 2 * step])
    sessions[2].feed(audio[1][: step + 1])
    assert [pool.run(), pool.run(), pool.run()] == [2, 1, 0]


def test_utterances_are_those_of_a_listener_and_nothing_is_compiled(model: Transcriber, sound):
    rules = EndpointRules(pause=0.4, silence=1.0, longest=1.2, short_pause=0.1, hardest=1.6)
    recordings = [
        np.concatenate([sound(1.0, 1), np.zeros(24_000, np.int16), sound(1.3, 2)]),
        np.concatenate([sound(2.9, 3), np.zeros(8_000, np.int16), sound(0.4, 4)]),
        np.zeros(40_000, np.int16),
    ]
    expected, texts = [], []
    for samples in recordings:
        listener, stream = Listener(model, rules), model.stream()
        expected.append([*listener.feed(samples), *listener.finish()])
        stream.feed(samples)
        texts.append(stream.finish().text)
    assert all(len(segments) > 1 for segments in expected)
    pool = model.pool(2)
    pool.open().feed(recordings[2])
    pool.run()
    pool = model.pool(2)
    compiled = programs()
    for number, samples in enumerate(recordings):
        session, other, found = pool.open(rules=rules), pool.open(), []
        rng = np.random.default_rng(number)
        for piece in np.split(samples, np.sort(rng.integers(0, len(samples), 9))):
            session.feed(piece)
            other.feed(piece)
            for _ in range(rng.integers(0, 9)):
                pool.run()
            found += session.ended()
        last = session.finish()
        transcripts = [s.transcript for s in (*found, *session.ended())]
        transcripts += [last] if last.text else []
        assert [t.text for t in transcripts] == [s.transcript.text for s in expected[number]]
        for segment, other_one in zip(found, expected[number], strict=False):
            assert (segment.start, segment.end) == (other_one.start, other_one.end)
        starts = [w.start for t in transcripts for w in t.words]
        assert starts == [w.start for s in expected[number] for w in s.transcript.words]
        assert other.finish().text == texts[number]  # whole, and not disturbed
    assert programs() == compiled


def test_limits_are_said_and_do_no_harm(model: Transcriber, sound):
    pool = model.pool(1, waiting_s=0.5)
    session = pool.open()
    with pytest.raises(InputError, match="all 1 slots are taken"):
        pool.open()
    samples = sound(0.4, 3)
    session.feed(samples)
    with pytest.raises(InputError, match="run the pool"):
        session.feed(np.zeros(8_000, np.int16))
    with pytest.raises(InputError, match="NaN"):
        session.feed(np.full(10, np.nan, np.float32))
    while pool.run():
        pass
    text = session.finish().text
    stream = model.stream()
    stream.feed(samples)
    assert text == stream.finish().text
    with pytest.raises(ValueError, match="finished"):
        session.feed(samples)
    session.leave()
    again = pool.open()
    assert again.text == ""
    assert again.finish().text == ""
    with pytest.raises(InputError, match="holds nothing"):
        model.pool(0)


def test_states_have_a_row_for_each_stream(model: Transcriber):
    for leaf in jax.tree.leaves(model.recognizer.start_streams(7)):
        assert leaf.shape[0] == 7
