"""Augmentation: what was asked for, and nothing outside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.data.augment import (
    AugmentConfig,
    Augmenter,
    change_speed,
    spec_augment,
    warp_frequency,
)
from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.data.noise import coloured_noise, noise_pool

QUIET = AugmentConfig(speed=(1.0,), gain_db=(0.0, 0.0), noise_probability=0.0)


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(make_tone, speed):
    samples = change_speed(make_tone(1.0, 440.0), speed)
    assert len(samples) == pytest.approx(16_000 / speed, abs=1)
    peak = np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples)
    assert peak == pytest.approx(440.0 * speed, abs=2.0)


def test_no_augmentation_changes_nothing(make_tone):
    out = Augmenter(QUIET, [])(make_tone(0.5), 1.0, np.random.default_rng(0))
    assert np.array_equal(out, make_tone(0.5))


def test_gain_lies_in_its_range_and_clips(make_tone):
    config = AugmentConfig(gain_db=(-12.0, 6.0), noise_probability=0.0)
    peaks = [
        np.abs(Augmenter(config, [])(make_tone(0.2), 1.0, np.random.default_rng(i))).max()
        for i in range(100)
    ]
    decibels = 20 * np.log10(np.asarray(peaks) / 8000.0)
    assert -12.1 < decibels.min() < -10.5
    assert 4.5 < decibels.max() < 6.1
    loud = AugmentConfig(gain_db=(40.0, 40.0), noise_probability=0.0)
    out = Augmenter(loud, [])(make_tone(0.2), 1.0, np.random.default_rng(0))
    assert (out.min(), out.max()) == (-32768, 32767)  # no wrapping around


def test_noise_lies_in_its_range(make_tone):
    config = AugmentConfig(gain_db=(0, 0), noise_probability=1.0, noise_snr_db=(5.0, 30.0))
    augmenter = Augmenter(config, noise_pool(0, seconds=2.0))
    clean = make_tone(3.0).astype(float)  # longer than the pool's noises
    ratios = []
    for i in range(40):
        noise = augmenter(make_tone(3.0), 1.0, np.random.default_rng(i)) - clean
        ratios.append(10 * np.log10(np.mean(clean**2) / np.mean(noise**2)))
    assert 4.9 < min(ratios) < 10
    assert 25 < max(ratios) < 30.1


def test_noise_comes_as_often_as_asked(make_tone):
    config = AugmentConfig(gain_db=(0, 0), noise_probability=0.3)
    augmenter = Augmenter(config, noise_pool(0, seconds=1.0))
    samples = make_tone(0.1)
    changed = [
        not np.array_equal(augmenter(samples, 1.0, np.random.default_rng(i)), samples)
        for i in range(400)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_pool_is_deterministic_and_of_unit_power(make_tone):
    voices = [make_tone(0.5, 300), make_tone(0.7, 500), np.zeros(8000, np.int16)]
    one, two = noise_pool(4, voices, seconds=3.0), noise_pool(4, voices, seconds=3.0)
    assert len(one) == 6
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == np.float32
        assert np.mean(a.astype(float) ** 2) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(exponent):
    power = np.abs(np.fft.rfft(coloured_noise(1 << 18, exponent, np.random.default_rng(0)))) ** 2
    hertz = np.fft.rfftfreq(1 << 18, 1 / 16_000)
    low, high = (power[(hertz > f) & (hertz < 2 * f)].mean() for f in (200, 3200))
    assert np.log2(low / high) / 4 == pytest.approx(exponent, abs=0.1)


def test_noise_from_recordings(manifest, make_tone, tmp_path):
    corpus = open_corpus(str(manifest))
    augmenter = Augmenter.create(AugmentConfig(noise=str(manifest)), corpus, seed=0)
    assert len(augmenter.pool) == 50
    with pytest.raises(InputError, match="no corpus"):
        Augmenter.create(AugmentConfig(noise=str(tmp_path / "none")), corpus, seed=0)


_spec_augment = jax.jit(spec_augment, static_argnames=("config", "bins"))


def _masked(config, lengths, key=0, bins=8, stack=3, frames=60):
    x = jnp.ones((len(lengths), frames, bins * stack))
    y = _spec_augment(jax.random.key(key), x, jnp.asarray(lengths), config=config, bins=bins)
    return np.asarray(y) == 0


def test_spec_augment_hides_the_same_bins_of_stacked_frames():
    config = AugmentConfig(freq_masks=1, freq_width=4, time_masks=0)
    masked = _masked(config, [60] * 200)
    assert (masked == masked[:, :1]).all()  # all of time
    bands = masked[:, 0].reshape(200, 3, 8)
    assert (bands == bands[:, :1]).all()
    widths = bands[:, 0].sum(1)
    assert set(widths) == {0, 1, 2, 3, 4}
    assert bands[:, 0].any(0).all()  # any bin can be hit
    edges = np.diff(bands[:, 0].astype(int), axis=1, prepend=0, append=0)
    assert (np.abs(edges).sum(1) <= 2).all()  # one band


def test_spec_augment_keeps_time_masks_inside_the_utterance():
    config = AugmentConfig(freq_masks=0, time_masks=2, time_fraction=0.2)
    lengths = np.tile([60, 30, 10, 0], 500)
    masked = _masked(config, lengths)
    assert (masked == masked[:, :, :1]).all()  # all bins
    hidden = masked[:, :, 0]
    for row, length in zip(hidden, lengths, strict=True):
        assert not row[length:].any()
        assert row.sum() <= 2 * int(0.2 * length)
    assert hidden[lengths == 60].any(0).all()
    assert hidden[lengths == 60].sum(1).max() > 12  # both masks are drawn


def test_spec_augment_is_a_function_of_its_key():
    config = AugmentConfig()
    one, two, other = (_masked(config, [60] * 4, key) for key in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])  # rows draw their own
    assert not _masked(AugmentConfig(freq_masks=0, time_masks=0), [60]).any()


def test_spec_augment_keeps_what_it_does_not_hide():
    x = jax.random.normal(jax.random.key(5), (2, 20, 24), jnp.bfloat16) + 1
    lengths = jnp.asarray([20, 10])
    y = _spec_augment(jax.random.key(0), x, lengths, config=AugmentConfig(), bins=8)
    assert y.dtype == x.dtype
    assert bool(((y == x) | (y == 0)).all())


_warp = jax.jit(warp_frequency, static_argnames=("config", "bins", "low_hz", "high_hz"))
_SCALE = {"bins": 64, "low_hz": 20.0, "high_hz": 8000.0}


def test_frequency_warp_moves_a_tone_by_its_factor():
    """A ridge in the mel spectrum comes out within half a bin of where a tone factor x f lies."""
    ends = 1127.0 * np.log1p(np.array([20.0, 8000.0]) / 700.0)
    spacing = (ends[1] - ends[0]) / 65
    at = 30
    hz = 700.0 * np.expm1((ends[0] + spacing * (at + 1)) / 1127.0)
    # A wide ridge, so that interpolation keeps its centre of mass.
    ridge = np.exp(-0.5 * ((np.arange(64) - at) / 2.0) ** 2).astype(np.float32)
    x = np.broadcast_to(np.tile(ridge, 2), (200, 3, 128))
    config = AugmentConfig(freq_warp=0.2)
    y = np.asarray(_warp(jax.random.key(0), jnp.asarray(x), config=config, **_SCALE))
    np.testing.assert_allclose(y[:, :, :64], y[:, :, 64:])
    centre = (y[:, 0, :64] * np.arange(64)).sum(1) / y[:, 0, :64].sum(1)

    def lies(factor):
        return (1127.0 * np.log1p(hz / factor / 700.0) - ends[0]) / spacing - 1

    assert centre.min() > lies(1.2) - 0.5
    assert centre.max() < lies(0.8) + 0.5
    assert centre.min() < lies(1.15), "factors fill the range"
    assert centre.max() > lies(0.85), "factors fill the range"


def test_frequency_warp_keeps_flat_spectra_and_can_be_off():
    x = jnp.ones((4, 5, 128))
    y = _warp(jax.random.key(1), x, config=AugmentConfig(freq_warp=0.3), **_SCALE)
    np.testing.assert_allclose(y, x, atol=1e-6)
    x = jax.random.normal(jax.random.key(2), (2, 5, 64))
    off = _warp(jax.random.key(1), x, config=AugmentConfig(), **_SCALE)
    np.testing.assert_array_equal(off, x)
