"""The whole speaker model: samples in, an embedding out.

    model = SpeakerNet(config, rngs=nnx.Rngs(0))
    embeddings = normalized(model(samples, lengths))        # [B, D], cosine is a product

Log-mels lose their mean over the recording, and with it most of the channel.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..cost import cost
from ..frontend import FrontendConfig, LogMel
from ..keys import weight_keys
from .ecapa import Ecapa, EcapaConfig
from .layers import within_lengths
from .resnet import ResNet, ResNetConfig

SpeakerEncoderConfig: TypeAlias = EcapaConfig | ResNetConfig

_SECONDS = 10.0


@dataclass(frozen=True)
class SpeakerConfig:
    """Features and encoder. The front end's running mean and tail are for streams: off here."""

    encoder: SpeakerEncoderConfig = field(default_factory=EcapaConfig)
    frontend: FrontendConfig = field(
        default_factory=lambda: FrontendConfig(stack=1, mean_tau_s=0.0, tail_s=0.0)
    )


class SpeakerNet(nnx.Module):
    """Mean-normalised log-mels, an encoder, one vector a recording."""

    def __init__(self, config: SpeakerConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.config = config
        self.frontend = LogMel(config.frontend)
        size, encoder = config.frontend.size, config.encoder
        self.encoder = (
            Ecapa(size, encoder, rngs=rngs, dtype=dtype)
            if isinstance(encoder, EcapaConfig)
            else ResNet(size, encoder, rngs=rngs, dtype=dtype)
        )

    def features(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log-mels without their mean over the recording.

        Args:
          samples: [B, N]; integers as recorded, floats in [-1, 1].
          lengths: [B], samples that count.

        Returns:
          `(x [B, T, size] float32, frames [B])`; x is 0 behind its length.
        """
        x, frames = self.frontend(samples, lengths)
        config = self.config.frontend
        within = within_lengths(x.shape[1], frames)[:, :, None, None]
        x = x.reshape(*x.shape[:2], config.stack, config.bins)
        count = jnp.maximum(frames * config.stack, 1).astype(jnp.float32)
        mean = x.sum(axis=(1, 2)) / count[:, None]
        x = jnp.where(within, x - mean[:, None, None, :], 0.0)
        return x.reshape(*x.shape[:2], config.size), frames

    def __call__(self, samples: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, N] samples and [B] -> [B, D] float32, of any length; `train`: batch statistics."""
        return self.embed(*self.features(samples, lengths), train=train)

    def embed(self, x: jax.Array, frames: jax.Array, *, train: bool = False) -> jax.Array:
        """Features [B, T, size] and [B] -> [B, D] float32."""
        return self.encoder(x, frames, train=train).astype(jnp.float32)


def normalized(x: jax.Array) -> jax.Array:
    """[..., D] of unit length; a vector of zeros stays one, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


@dataclasses.dataclass(frozen=True)
class SpeakerCost:
    """Multiply-adds per second of audio, and trained parameters."""

    frontend: int
    encoder: int
    parameters: int


@functools.lru_cache
def speaker_cost(config: SpeakerConfig) -> SpeakerCost:
    """What a recording of ten seconds costs, a second of it; shapes alone are computed with."""
    step = config.frontend.step
    samples = math.ceil(_SECONDS * config.frontend.sample_rate / step) * step
    seconds = samples / config.frontend.sample_rate
    model = nnx.eval_shape(lambda: SpeakerNet(config, rngs=weight_keys(0)))
    graphdef, variables = nnx.split(model)
    struct = jax.ShapeDtypeStruct
    audio = struct((1, samples), jnp.int16), struct((1,), jnp.int32)
    features = struct((1, samples // step, config.frontend.size), jnp.float32), audio[1]

    def features_of(variables: Any, *args: Any):
        return nnx.merge(graphdef, variables).features(*args)

    def embed(variables: Any, *args: Any):
        return nnx.merge(graphdef, variables).embed(*args)

    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    return SpeakerCost(
        frontend=round(cost(features_of, variables, *audio) / seconds),
        encoder=round(cost(embed, variables, *features) / seconds),
        parameters=sum(math.prod(leaf.shape) for leaf in leaves),
    )
