"""ECAPA-TDNN: dilated convolutions over time, several scales in a layer, channels weighed.

Source: Desplanques, Thienpondt, Demuynck 2020, "ECAPA-TDNN: Emphasized channel attention,
propagation and aggregation in TDNN based speaker verification", arXiv 2005.07143; as there, each
block sees the sum of all outputs before it.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..normalization import BatchNorm
from ..squeeze import SqueezeExcite
from .layers import Tdnn, TimeConv, within_lengths
from .pooling import AttentiveStatistics


@dataclass(frozen=True)
class EcapaConfig:
    kind: Literal["ecapa"] = "ecapa"
    width: int = 512
    """Channels, the paper's C."""
    scale: int = 8
    """Parts that a block's channels are cut into; each but the first is convolved in its turn."""
    dilations: tuple[int, ...] = (2, 3, 4)
    """One block each."""
    squeeze: int = 128
    """Width of the squeeze-and-excitation bottleneck."""
    aggregated: int = 1536
    """Channels that all blocks' outputs are mixed into."""
    attention: int = 128
    output: int = 192
    """Width of the embedding."""


class Res2(nnx.Module):
    """Channels in parts: the first passes, each other is convolved together with the one before.

    Source: Gao et al. 2019, "Res2Net", arXiv 1904.01169.
    """

    def __init__(self, width: int, scale: int, dilation: int, *, rngs: nnx.Rngs, dtype: DTypeLike):
        if width % scale:
            raise ValueError(f"{width} channels cannot be cut into {scale} parts")
        self.scale = scale
        part = width // scale
        self.parts = nnx.List(
            [
                Tdnn(part, part, 3, dilation=dilation, rngs=rngs, dtype=dtype)
                for _ in range(scale - 1)
            ]
        )

    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool) -> jax.Array:
        first, *rest = jnp.split(x, self.scale, axis=-1)
        done = [first]
        for i, (part, layer) in enumerate(zip(rest, self.parts, strict=True)):
            done.append(layer(part + done[-1] if i else part, lengths, train=train))
        return jnp.concatenate(done, axis=-1)


class Block(nnx.Module):
    """1 x 1, Res2, 1 x 1, squeeze-and-excitation, all around a residual."""

    def __init__(self, config: EcapaConfig, dilation: int, *, rngs: nnx.Rngs, dtype: DTypeLike):
        width = config.width
        self.enter = Tdnn(width, width, rngs=rngs, dtype=dtype)
        self.res2 = Res2(width, config.scale, dilation, rngs=rngs, dtype=dtype)
        self.leave = Tdnn(width, width, rngs=rngs, dtype=dtype)
        self.squeeze = SqueezeExcite(
            width, width // config.squeeze, "global", rngs=rngs, dtype=dtype
        )

    @jax.named_scope("block")
    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool) -> jax.Array:
        y = self.enter(x, lengths, train=train)
        y = self.res2(y, lengths, train=train)
        y = self.leave(y, lengths, train=train)
        state = self.squeeze.init_state(y.shape[0])
        y, _ = self.squeeze(y, state, within_lengths(y.shape[1], lengths))
        return x + y


class Ecapa(nnx.Module):
    """[B, T, F] and [B] -> [B, output]."""

    def __init__(
        self,
        input_size: int,
        config: EcapaConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        width = config.width
        self.entry = Tdnn(input_size, width, 5, rngs=rngs, dtype=dtype)
        self.blocks = nnx.List([Block(config, d, rngs=rngs, dtype=dtype) for d in config.dilations])
        self.mix = TimeConv(
            width * len(config.dilations), config.aggregated, rngs=rngs, dtype=dtype
        )
        self.pooling = AttentiveStatistics(
            config.aggregated, config.attention, context=True, rngs=rngs, dtype=dtype
        )
        self.pooled_norm = BatchNorm(2 * config.aggregated)
        self.output = nnx.Linear(2 * config.aggregated, config.output, rngs=rngs)
        self.output_norm = BatchNorm(config.output)

    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """x: [B, T, F]; NaN behind a row's length changes nothing. `train`: batch statistics."""
        with jax.named_scope("entry"):
            total = self.entry(x, lengths, train=train)
        outputs = []
        for block in self.blocks:
            outputs.append(block(total, lengths, train=train))
            total = total + outputs[-1]
        with jax.named_scope("mix"):
            y = jax.nn.relu(self.mix(jnp.concatenate(outputs, axis=-1), lengths))
        y = self.pooling(y, lengths, train=train)
        y = self.pooled_norm(y[:, None, :], train=train)[:, 0]
        with jax.named_scope("output"):
            y = self.output(y)
        return self.output_norm(y[:, None, :], train=train)[:, 0]
