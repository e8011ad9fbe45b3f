"""Convolutions of speaker encoders: centred over time, blind to padding.

Whatever looks at neighbouring frames first zeroes those behind a recording's end. A short recording
in a long batch then meets the zeros that it would meet alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..layers import mask_frames
from ..normalization import BatchNorm


def within_lengths(frames: int, lengths: jax.Array) -> jax.Array:
    """[B, frames] bool: the frames that lie before each row's length [B]."""
    return jnp.arange(frames)[None, :] < lengths[:, None]


class TimeConv(nnx.Module):
    """A convolution over time with a bias; as many frames come out as go in.

    One product of matrices over the shifted input, which the cost counter and every device know;
    on two CPU cores it takes as long as XLA's own convolution (`benchmarks/speakers.py`).
    """

    def __init__(
        self,
        input_size: int,
        width: int,
        kernel: int = 1,
        *,
        dilation: int = 1,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        if kernel % 2 == 0:
            raise ValueError(f"a centred kernel is odd, not {kernel}")
        self.dilation = dilation
        self.dtype = dtype
        self.kernel = nnx.Param(
            nnx.initializers.he_normal(in_axis=(0, 1))(rngs.params(), (kernel, input_size, width))
        )
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array, lengths: jax.Array) -> jax.Array:
        """[B, T, input_size] and [B] -> [B, T, width]; finite in the padding where x is."""
        kernel = self.kernel[...].astype(self.dtype)
        taps, width = kernel.shape[0], kernel.shape[2]
        x = x.astype(self.dtype)
        if taps > 1:
            frames, side = x.shape[1], (taps - 1) // 2 * self.dilation
            x = jnp.pad(mask_frames(x, lengths), ((0, 0), (side, side), (0, 0)))
            shifts = range(0, taps * self.dilation, self.dilation)
            x = jnp.concatenate([x[:, s : s + frames] for s in shifts], axis=-1)
        y = jnp.matmul(x, kernel.reshape(-1, width))
        return y + self.bias[...].astype(self.dtype)[None, None, :]


class Tdnn(nnx.Module):
    """Convolution, ReLU, batch normalisation: the order of the x-vector family."""

    def __init__(
        self,
        input_size: int,
        width: int,
        kernel: int = 1,
        *,
        dilation: int = 1,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.conv = TimeConv(input_size, width, kernel, dilation=dilation, rngs=rngs, dtype=dtype)
        self.norm = BatchNorm(width, dtype=dtype)

    def __call__(self, x: jax.Array, lengths: jax.Array, *, train: bool = False) -> jax.Array:
        """[B, T, input_size] and [B] -> [B, T, width]."""
        y = jax.nn.relu(self.conv(x, lengths))
        return self.norm(y, within_lengths(y.shape[1], lengths), train=train)


class PlaneConv(nnx.Module):
    """A convolution over frames and mel bins, centred, without a bias."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.stride = stride
        self.dtype = dtype
        shape = (kernel, kernel, channels, width)
        self.kernel = nnx.Param(nnx.initializers.he_normal(in_axis=(0, 1, 2))(rngs.params(), shape))

    def __call__(self, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, F, C] and [B] -> `([B, ceil(T / s), ceil(F / s), width], ceil(lengths / s))`."""
        side = (self.kernel.shape[0] - 1) // 2
        inside = within_lengths(x.shape[1], lengths)[:, :, None, None]
        y: Any = jax.lax.conv_general_dilated(
            jnp.where(inside, x, jnp.zeros_like(x)).astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            (self.stride, self.stride),
            ((side, side), (side, side)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y, -(-lengths // self.stride)
