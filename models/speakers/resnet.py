"""ResNet34 with squeeze-and-excitation and attentive statistics pooling.

Source: He et al. 2016, "Deep residual learning", arXiv 1512.03385; narrowed to a quarter and with
attentive pooling as in Heo et al. 2020, "Clova baseline system for the VoxCeleb speaker recognition
challenge 2020", arXiv 2009.14153.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..normalization import BatchNorm
from ..squeeze import SqueezeExcite
from .layers import PlaneConv, within_lengths
from .pooling import AttentiveStatistics


@dataclass(frozen=True)
class ResNetConfig:
    kind: Literal["resnet"] = "resnet"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    """One stage each; every stage but the first halves frames and bins."""
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Of each stage: the 34 layers' own."""
    squeeze_reduction: int = 8
    attention: int = 128
    output: int = 512
    """Width of the embedding."""


class PlaneNorm(nnx.Module):
    """Batch normalisation of planes [B, T, F, C], frames behind the lengths left out."""

    def __init__(self, width: int, *, dtype: DTypeLike):
        self.norm = BatchNorm(width, dtype=dtype)

    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool) -> jax.Array:
        flat, within = _flat(x, lengths)
        return self.norm(flat, within, train=train).reshape(x.shape)


class BasicBlock(nnx.Module):
    """Two 3 x 3 convolutions and squeeze-and-excitation around a residual."""

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        reduction: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        self.first = PlaneConv(channels, width, stride=stride, rngs=rngs, dtype=dtype)
        self.first_norm = PlaneNorm(width, dtype=dtype)
        self.second = PlaneConv(width, width, rngs=rngs, dtype=dtype)
        self.second_norm = PlaneNorm(width, dtype=dtype)
        self.squeeze = SqueezeExcite(width, reduction, "global", rngs=rngs, dtype=dtype)
        self.changes = stride != 1 or channels != width
        if self.changes:
            self.short = PlaneConv(channels, width, 1, stride=stride, rngs=rngs, dtype=dtype)
            self.short_norm = PlaneNorm(width, dtype=dtype)

    @jax.named_scope("block")
    def __call__(
        self, x: jax.Array, lengths: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        y, after = self.first(x, lengths)
        y = jax.nn.relu(self.first_norm(y, after, train=train))
        y, _ = self.second(y, after)
        y = self.second_norm(y, after, train=train)
        flat, within = _flat(y, after)
        flat, _ = self.squeeze(flat, self.squeeze.init_state(y.shape[0]), within)
        if self.changes:
            x, _ = self.short(x, lengths)
            x = self.short_norm(x, after, train=train)
        return jax.nn.relu(x + flat.reshape(y.shape)), after


class ResNet(nnx.Module):
    """[B, T, F] and [B] -> [B, output]."""

    def __init__(
        self,
        input_size: int,
        config: ResNetConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        width = config.channels[0]
        self.dtype = dtype
        self.entry = PlaneConv(1, width, rngs=rngs, dtype=dtype)
        self.entry_norm = PlaneNorm(width, dtype=dtype)
        blocks, bins = [], input_size
        for stage, (channels, count) in enumerate(zip(config.channels, config.blocks, strict=True)):
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(
                    BasicBlock(
                        width, channels, stride, config.squeeze_reduction, rngs=rngs, dtype=dtype
                    )
                )
                width, bins = channels, -(-bins // stride)
        self.blocks = nnx.List(blocks)
        flat = width * bins
        self.pooling = AttentiveStatistics(
            flat, config.attention, context=False, rngs=rngs, dtype=dtype
        )
        self.output = nnx.Linear(2 * flat, config.output, rngs=rngs)

    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """x: [B, T, F]; NaN behind a row's length changes nothing. `train`: batch statistics."""
        with jax.named_scope("entry"):
            y, lengths = self.entry(x[:, :, :, None].astype(self.dtype), lengths)
            y = jax.nn.relu(self.entry_norm(y, lengths, train=train))
        for block in self.blocks:
            y, lengths = block(y, lengths, train=train)
        y = self.pooling(y.reshape(*y.shape[:2], -1), lengths, train=train)
        with jax.named_scope("output"):
            return self.output(y)


def _flat(x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, T, F, C] as [B, T F, C], and which of its positions count."""
    batch, frames, bins, channels = x.shape
    within = jnp.repeat(within_lengths(frames, lengths), bins, axis=1)
    return x.reshape(batch, frames * bins, channels), within
