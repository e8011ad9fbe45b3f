"""Where speech begins and ends: by energy, whatever the file's ends and the noise."""

import numpy as np
import pytest

from parley.data.activity import GRAIN, SpeechBounds, speech_bounds
from parley.data.corpus import Utterance
from parley.data.noise import noisy


def speech(before: float, seconds: float, after: float, seed: int = 0) -> np.ndarray:
    """Syllables: harmonics of 120 Hz, five a second with dips between, in silence; int16."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    rng = np.random.default_rng(seed)
    voice = sum(rng.uniform(0.2, 1) * np.sin(2 * np.pi * 120 * k * time) for k in range(1, 20))
    voice *= 0.15 + np.abs(np.sin(np.pi * 5 * time + np.pi / 4))
    pads = (round(before * 16_000), round(after * 16_000))
    return np.pad(4000 * voice / np.abs(voice).max(), pads).astype(np.int16)


@pytest.mark.parametrize("snr_db", [None, 40.0, 30.0, 20.0])
@pytest.mark.parametrize(("before", "after"), [(0.3, 0.3), (0.1, 0.6), (0.05, 0.08)])
def test_bounds_are_where_the_sound_is(before, after, snr_db):
    clean = speech(before, 2.0, after)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        samples = clean if snr_db is None else noisy(clean, snr_db, rng)
        first, last = speech_bounds(samples)
        assert first / 16_000 == pytest.approx(before, abs=0.03)
        assert last / 16_000 == pytest.approx(before + 2.0, abs=0.03)
        assert first % GRAIN == last % GRAIN == 0


def test_a_click_is_no_speech():
    samples = speech(0.5, 1.0, 0.5)
    samples[1600:1610] = 9000
    assert speech_bounds(samples)[0] / 16_000 == pytest.approx(0.5, abs=0.03)


def test_level_changes_nothing():
    loud = speech(0.2, 1.0, 0.4)
    assert speech_bounds((loud // 8).astype(np.int16)) == speech_bounds(loud)


@pytest.mark.parametrize("count", [0, 1, 100, 400, 16_000])
def test_silence_and_scraps_are_taken_whole(count):
    assert speech_bounds(np.zeros(count, np.int16)) == (0, count)


class Counting:
    """Two recordings, and how often they were read."""

    name = "counting"

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 2

    def utterance(self, i):
        return Utterance(f"r{i}", "x", 2.0)

    def samples(self, i):
        self.reads += 1
        return speech(0.2 + 0.1 * i, 1.0, 0.5)


def test_bounds_are_found_once_and_kept_on_disk(tmp_path):
    corpus, file = Counting(), tmp_path / "made" / "bounds.tsv"
    bounds = SpeechBounds(corpus, file)
    expected = [speech_bounds(corpus.samples(i)) for i in range(2)]
    corpus.reads = 0
    assert [bounds[0], bounds[1], bounds[0]] == [*expected, expected[0]]
    assert corpus.reads == 2
    again = SpeechBounds(corpus, file)
    assert [again[1], again[0]] == expected[::-1]
    assert corpus.reads == 2
    # A torn or foreign line costs a look, not an error.
    file.write_text(file.read_text().splitlines()[0] + "\nr1\t2.0000\t99\nr1\t2.0000\tx\ty\nr1")
    torn = SpeechBounds(corpus, file)
    assert [torn[0], torn[1]] == expected
    assert corpus.reads == 3


def test_bounds_need_no_disk(tmp_path):
    (tmp_path / "file").touch()
    assert SpeechBounds(Counting(), tmp_path / "file" / "b.tsv")[0][0] == 3200
