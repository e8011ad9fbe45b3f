"""espeak-ng: voices are really taken, and the same call gives the same samples."""

import builtins
import itertools

import numpy as np
import pytest

from parley.data.embedded.draw import Draw
from parley.data.embedded.session import SAMPLE_RATE, record
from parley.data.embedded.speakers import ACCENTS, speaker
from parley.data.embedded.synth import SYNTH_RATE, Synthesiser
from parley.data.embedded.words import WORDS
from parley.data.embedded.worker import speak
from parley.data.errors import InputError

pytest.importorskip("espeakng_loader", reason="the extra `synth` is not installed")

LOW = "language variant\nname low\ngender male\npitch 75 95\nflutter 3\nbreath 0 3 3 3\n"
HIGH = "language variant\nname high\ngender female\npitch 190 240\nformant 1 115 100 100\n"


@pytest.fixture(scope="module")
def synthesiser():
    with Synthesiser({"low": LOW, "high": HIGH}) as instance:
        yield instance


def pitch_hz(samples: np.ndarray) -> float:
    """The best period of the loudest 80 ms, by autocorrelation."""
    x = samples.astype(float)
    size = int(0.08 * SYNTH_RATE)
    start = int(np.argmax(np.convolve(x * x, np.ones(size), "valid")))
    frame = x[start : start + size] - x[start : start + size].mean()
    correlation = np.correlate(frame, frame, "full")[size - 1 :]
    low, high = SYNTH_RATE // 350, SYNTH_RATE // 60
    return SYNTH_RATE / (low + int(np.argmax(correlation[low:high])))


def test_an_unknown_variant_is_not_passed_over(synthesiser: Synthesiser):
    with pytest.raises(ValueError, match="nobody"):
        synthesiser.voice("en-us", "nobody")
    with pytest.raises(ValueError, match="en-atlantis"):
        synthesiser.voice("en-atlantis", "low")


def test_a_variant_is_heard(synthesiser: Synthesiser):
    heard = {}
    for variant in ("low", "high"):
        synthesiser.voice("en-gb-x-rp", variant)
        heard[variant] = pitch_hz(synthesiser.say("more"))
    assert 65 < heard["low"] < 110
    assert 170 < heard["high"] < 270


def test_every_accent_sounds_different(synthesiser: Synthesiser):
    said = []
    for accent in ACCENTS.values():
        synthesiser.voice(accent, "low")
        said.append(synthesiser.say("turn the kitchen heater on after half past three").tobytes())
    assert len(set(said)) == len(ACCENTS)


def test_a_fresh_synthesiser_repeats_itself():
    def session(seed: int = 5) -> list[bytes]:
        with Synthesiser({"low": LOW, "high": HIGH}) as fresh:
            samples = []
            for variant in ("low", "high", "low"):
                fresh.voice("en-029", variant)
                fresh.seed(seed)
                samples.append(fresh.say("good evening").tobytes())
        return samples

    first = session()
    assert first == session()
    assert first[0] != session(seed=6)[0]  # breath is random
    # Why it must be fresh: the flutter goes on where it stopped.
    assert first[0] != first[2]


def test_rate_and_pitch_are_obeyed(synthesiser: Synthesiser):
    synthesiser.voice("en-us", "low")
    slow, fast = (synthesiser.say("good morning", rate=rate).size for rate in (140, 190))
    assert 1.15 < slow / fast < 1.6
    low, high = (pitch_hz(synthesiser.say("more", pitch=pitch)) for pitch in (47, 53))
    assert 1.05 < high / low < 1.2


@pytest.mark.parametrize("accent", ACCENTS)
def test_no_two_words_sound_alike(synthesiser: Synthesiser, accent: str):
    synthesiser.voice(ACCENTS[accent])
    said = {word: synthesiser.phonemes(word) for word in WORDS}
    alike = [(a, b) for a, b in itertools.combinations(WORDS, 2) if said[a] == said[b]]
    assert alike == []


def test_a_speaker_is_spoken_alike_twice_and_begins_alike_when_longer():
    short, long = (speak(Draw("words", "train", 1, count), 3, range(count)) for count in (2, 4))
    assert [e["id"] for e in short] == ["words-train0003-0000", "words-train0003-0001"]
    for a, b in zip(short, long[:2], strict=True):
        np.testing.assert_array_equal(a.pop("audio"), b.pop("audio"))
        assert a == b
    assert short[0]["voice"] == speaker("train", 3).voice == "en-gb-scotland+train0003"


def tone() -> np.ndarray:
    return (8000 * np.sin(0.15 * np.arange(SYNTH_RATE))).astype(np.int16)


def test_recordings_are_16_khz_and_do_not_clip():
    lengths, levels = [], []
    for seed in range(40):
        samples, drawn = record(tone(), SYNTH_RATE, np.random.default_rng(seed), noisy=True)
        assert samples.dtype == np.int16
        assert np.abs(samples.astype(int)).max() < 32767
        lengths.append(samples.size / SAMPLE_RATE)
        levels.append(drawn["level"])
    assert 1.13 <= min(lengths) < max(lengths) <= 1.61
    assert -38.1 < min(levels) < -30
    assert -25 < max(levels) < -17.9


def test_noise_is_as_loud_as_it_says():
    """The noise is what a noisy recording has over the clean one of the same draw."""
    shares = []
    for seed in range(40):
        noisy, drawn = record(tone(), SYNTH_RATE, np.random.default_rng(seed), noisy=True)
        clean, none = record(tone(), SYNTH_RATE, np.random.default_rng(seed), noisy=False)
        assert none["snr"] == np.inf
        noise = np.sqrt(np.mean((noisy.astype(float) - clean) ** 2))
        if drawn["snr"] == np.inf:
            assert noise == 0
            continue
        assert 15 <= drawn["snr"] <= 40
        # Rounding to whole numbers adds 0.4, which only matters for the quietest.
        assert drawn["level"] - 20 * np.log10(noise / 32767) == pytest.approx(drawn["snr"], abs=1)
        shares.append(seed)
    assert 20 <= len(shares) <= 38


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *rest, **more):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'parley-asr\[synth\]'.*GPL-3"):
        Synthesiser({})
