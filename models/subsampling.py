"""Subsampling by strided convolutions over time and mels: eight frames become one.

    conv 3x3, stride 2 -> ReLU -> twice (depthwise 3x3, stride 2 -> pointwise -> ReLU) -> linear

Either centred, for whole recordings, or causal: then each layer sees the two frames before its own
and none after. Zeros stand for what lies outside, at every layer, as they do where the rows of a
batch end.

A convolution of one channel is nine products by hand: XLA's CPU backend is slow at those with as
many groups as channels.

Source: Rekesh et al. 2023, "Fast Conformer with linearly scalable attention for efficient speech
recognition", arXiv 2305.05084, section 3.1.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from .layers import mask_frames

FACTOR = 8
_KERNEL = 3
_LAYERS = 3

SubsamplingState = tuple[jax.Array, jax.Array, jax.Array]
"""The last frames that each layer saw, [B, frames, bins, channels]."""


class Subsampling(nnx.Module):
    """[B, T, bins] -> [B, T / 8, width].

    Causal layers begin at an odd frame: a stream's features come a frame late
    (`centred_frontend.py`), so the first layer's outputs lie at its frames 1, 3, 5...
    """

    def __init__(
        self,
        bins: int,
        channels: int,
        width: int,
        *,
        causal: bool,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.causal = causal
        self.dtype = dtype
        kernel = nnx.initializers.he_normal(in_axis=(0, 1))
        taps = (_KERNEL, _KERNEL, channels)
        self.kernels = nnx.List([nnx.Param(kernel(rngs.params(), taps)) for _ in range(_LAYERS)])
        self.biases = nnx.List([nnx.Param(jnp.zeros(channels)) for _ in range(_LAYERS)])
        self.points = nnx.List(
            [nnx.Linear(channels, channels, dtype=dtype, rngs=rngs) for _ in range(_LAYERS - 1)]
        )
        sizes = [bins]
        for _ in range(_LAYERS):
            sizes.append(sizes[-1] // 2 + 1 if causal else (sizes[-1] + 1) // 2)
        self.sizes = tuple(sizes)
        self.output = nnx.Linear(channels * self.sizes[-1], width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> SubsamplingState:
        """The state of a causal stream before its first frame."""
        channels = self.kernels[0].shape[-1]
        first = jnp.zeros((batch, 1, self.sizes[0], 1), self.dtype)
        second, third = (
            jnp.zeros((batch, 2, size, channels), self.dtype) for size in self.sizes[1:-1]
        )
        return first, second, third

    @jax.named_scope("subsampling")
    def step(self, x: jax.Array, state: SubsamplingState) -> tuple[jax.Array, SubsamplingState]:
        """[B, n, bins], n a multiple of 8 -> `([B, n / 8, width], state)`; causal only."""
        y, after = x[..., None].astype(self.dtype), []
        for layer, past in enumerate(state):
            y = jnp.concatenate([past, y], axis=1)
            after.append(y[:, y.shape[1] - past.shape[1] :])
            y = jax.nn.relu(self._layer(layer, y))
        first, second, third = after
        return self._flat(y), (first, second, third)

    @jax.named_scope("subsampling")
    def whole(self, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, bins], zero after lengths [B] -> `([B, ceil(T / 8), width], lengths)`; centred."""
        y = x[..., None].astype(self.dtype)
        for layer in range(_LAYERS):
            y = jnp.pad(y, ((0, 0), (1, 1), (0, 0), (0, 0)))
            y = self._layer(layer, y)
            lengths = -(-lengths // 2)
            batch, frames, bins, channels = y.shape
            y = mask_frames(y.reshape(batch, frames, bins * channels), lengths)
            y = jax.nn.relu(y.reshape(batch, frames, bins, channels))
        return self._flat(y), lengths

    def _layer(self, layer: int, x: jax.Array) -> jax.Array:
        """[B, N, F, C] with its past in front -> [B, (N - 1) // 2, F', channels]."""
        sides = (2, 1) if self.causal else (1, 1)
        x = jnp.pad(x, ((0, 0), (0, 0), sides, (0, 0)))
        kernel = self.kernels[layer][...].astype(self.dtype)
        y = depthwise_taps(x, kernel) + self.biases[layer][...].astype(self.dtype)[None, None, None]
        return self.points[layer - 1](y) if layer else y

    def _flat(self, x: jax.Array) -> jax.Array:
        """Bins of a channel beside each other, as checkpoints have them."""
        batch, frames, bins, channels = x.shape
        return self.output(x.transpose(0, 1, 3, 2).reshape(batch, frames, channels * bins))


# Jitted under the name that the cost counter knows, see models/convolution.py.
@jax.jit
def depthwise_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride 2 over frames and bins, each channel by itself: `[B, N, F, C]` and `[3, 3, W]` ->
    `[B, (N - 1) // 2, (F - 1) // 2, W]`; an input of one channel serves all W."""
    frames, bins = (x.shape[1] - 1) // 2, (x.shape[2] - 1) // 2

    def tap(i: int, j: int) -> jax.Array:
        cut = x[:, i : i + 2 * frames - 1 : 2, j : j + 2 * bins - 1 : 2]
        return cut * kernel[i, j][None, None, None, :]

    taps = [(i, j) for i in range(_KERNEL) for j in range(_KERNEL)]
    return sum((tap(i, j) for i, j in taps[1:]), start=tap(0, 0))
