"""Augmentation: speed, noise and gain on the host's samples; warping and
SpecAugment on the device's features.

Everything is a function of explicit seeds: an item's augmentation follows from (seed, index) and a
mask from its key, so that a resumed run sees what an unbroken one would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .audio import SAMPLE_RATE, resample, to_int16
from .corpus import Corpus, open_corpus
from .errors import InputError
from .noise import add_noise, cut_noise, noise_pool, recorded_pool

if TYPE_CHECKING:
    import jax

_BABBLE_VOICES = 60
_NOISE_RECORDINGS = 50


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training audio. Evaluation uses none of it."""

    speed: tuple[float, ...] = (0.9, 1.0, 1.1)  # factors, one drawn for each item of an epoch
    gain_db: tuple[float, float] = (-12.0, 6.0)  # drawn uniformly
    noise_probability: float = 0.3
    noise_snr_db: tuple[float, float] = (5.0, 30.0)  # drawn uniformly
    noise: str | None = None  # folder or manifest of noises; None: synthetic, and babble
    freq_warp: float = 0.0  # a voice's formants are moved by up to this share, up or down
    freq_masks: int = 2
    freq_width: int = 10  # mel bins, the widest mask
    time_masks: int = 2
    time_fraction: float = 0.05  # of the utterance, the longest mask


class Augmenter:
    """Speed perturbation, noise and gain for one item at a time; safe from several threads."""

    def __init__(self, config: AugmentConfig, pool: Sequence[np.ndarray]):
        self.config = config
        self.pool = pool

    @classmethod
    def create(cls, config: AugmentConfig, corpus: Corpus, seed: int) -> "Augmenter":
        """Makes the pool of noises: from `config.noise`, else synthetic with the corpus's babble.

        Raises:
          InputError: when `config.noise` names nothing that can be read.
        """
        if config.noise_probability <= 0:
            return cls(config, [])
        if config.noise is not None:
            recordings = _readable(
                open_corpus(config.noise, require_text=False), seed, _NOISE_RECORDINGS
            )
            pool = recorded_pool(recordings)
            if not pool:
                raise InputError(f"noise {config.noise}: no recording that is not silent.")
            return cls(config, pool)
        return cls(config, noise_pool(seed, _readable(corpus, seed, _BABBLE_VOICES)))

    def __call__(self, samples: np.ndarray, speed: float, rng: np.random.Generator) -> np.ndarray:
        """int16 `[N]` -> int16 `[about N / speed]`."""
        config = self.config
        signal = change_speed(samples, speed)
        noise_draw, snr, gain = rng.random(3)
        if self.pool and noise_draw < config.noise_probability:
            low, high = config.noise_snr_db
            add_noise(signal, cut_noise(self.pool, len(signal), rng), low + (high - low) * snr)
        low, high = config.gain_db
        signal *= np.float32(10.0 ** ((low + (high - low) * gain) / 20.0))
        return to_int16(signal)


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Plays int16 `[N]` `speed` times as fast, pitch and all; float32 `[about N / speed]`.

    Source: Ko et al., Audio augmentation for speech recognition, Interspeech 2015.
    """
    if speed == 1.0:
        return samples.astype(np.float32)
    return resample(samples, SAMPLE_RATE * speed, quality="LQ")


def warp_frequency(
    key: "jax.Array",
    x: "jax.Array",
    config: AugmentConfig,
    *,
    bins: int,
    low_hz: float,
    high_hz: float,
) -> "jax.Array":
    """Moves each row's spectrum along the frequency axis, as another vocal tract would.

    A row draws one factor from 1 - `freq_warp` to 1 + `freq_warp`; bin centres at f Hz then show
    what lay at factor x f, and what would come from outside the range repeats the edge.

    Args:
      key: a PRNG key; each row draws its own factor.
      x: `[B, T, D]` log-mels on Kaldi's mel scale from `low_hz` to `high_hz`, D a multiple of
        `bins` where frames are stacked.

    Returns:
      `[B, T, D]`. Source: Jaitly and Hinton, Vocal tract length perturbation, ICML 2013 workshop.
    """
    import jax
    import jax.numpy as jnp

    if not config.freq_warp:
        return x
    batch, frames, depth = x.shape
    ends = 1127.0 * np.log1p(np.array([low_hz, high_hz]) / 700.0)
    spacing = (ends[1] - ends[0]) / (bins + 1)
    hz = 700.0 * np.expm1((ends[0] + spacing * np.arange(1, bins + 1)) / 1127.0)
    factor = 1.0 + config.freq_warp * jax.random.uniform(key, (batch, 1), minval=-1.0)
    source = (1127.0 * jnp.log1p(factor * hz[None, :] / 700.0) - ends[0]) / spacing - 1.0
    source = jnp.clip(source, 0.0, bins - 1.0)
    # [B, source bin, bin]: linear interpolation as one small matrix a row.
    distance = jnp.abs(jnp.arange(bins)[None, :, None] - source[:, None, :])
    weights = jnp.maximum(0.0, 1.0 - distance).astype(x.dtype)
    stacked = x.reshape(batch, frames * (depth // bins), bins)
    return jnp.einsum("bti,bij->btj", stacked, weights).reshape(x.shape)


def spec_augment(
    key: "jax.Array",
    x: "jax.Array",
    lengths: "jax.Array",
    config: AugmentConfig,
    *,
    bins: int | None = None,
) -> "jax.Array":
    """Masks bands of mel bins and stretches of time with zeros, the mean of normalised features.

    Args:
      key: a PRNG key; each row draws its own masks.
      x: `[B, T, D]` normalised features, D a multiple of `bins` where frames are stacked.
      lengths: `[B]` valid frames: time masks fall inside them, and are a fraction of them.
      config: number and greatest width of the masks.
      bins: mel bins of a frame; a mask hides the same bins in all stacked frames. None: D.

    Returns:
      `[B, T, D]`. Pure, static shapes. Source: Park et al., SpecAugment, Interspeech 2019.
    """
    import jax
    import jax.numpy as jnp

    batch, frames, depth = x.shape
    bins = bins or depth
    freq_key, time_key = jax.random.split(key)

    def hidden(key, count, size, limits, widest):
        """`[B, size]`: whether a position lies under one of `count` masks inside `limits [B]`."""
        width_key, start_key = jax.random.split(key)
        # Uniform widths from 0 to `widest [B]`, both ends in, then uniform starts.
        width = jax.random.uniform(width_key, (batch, count)) * (widest[:, None] + 1)
        width = jnp.minimum(jnp.floor(width), widest[:, None])
        start = jax.random.uniform(start_key, (batch, count)) * (limits[:, None] - width + 1)
        start = jnp.floor(start)
        position = jnp.arange(size)[None, None, :]
        inside = (position >= start[..., None]) & (position < (start + width)[..., None])
        return inside.any(axis=1)

    keep = jnp.ones((batch, frames, depth), bool)
    if config.freq_masks and config.freq_width:
        limits = jnp.full((batch,), bins)
        widest = jnp.full((batch,), min(config.freq_width, bins))
        mask = hidden(freq_key, config.freq_masks, bins, limits, widest)
        keep &= ~jnp.tile(mask, (1, depth // bins))[:, None, :]
    if config.time_masks and config.time_fraction:
        widest = jnp.floor(config.time_fraction * lengths)
        keep &= ~hidden(time_key, config.time_masks, frames, lengths, widest)[:, :, None]
    return jnp.where(keep, x, jnp.zeros((), x.dtype))


def _readable(corpus: Corpus, seed: int, count: int) -> list[np.ndarray]:
    """Up to `count` recordings, drawn at random; damaged ones are passed over."""
    rng = np.random.default_rng((seed, 0x626162))
    found: list[np.ndarray] = []
    for i in rng.permutation(len(corpus)):
        if len(found) == count:
            break
        try:
            found.append(corpus.samples(int(i))[: 20 * SAMPLE_RATE])
        except (InputError, OSError):
            continue
    return found
