"""Convolutions over time that never look ahead, whole or streamed.

A layer maps `(x [B, T, D], state)` to `(y, state)`, where the state is the end of what came before:
a whole utterance is one chunk from `init_state`. With stride s, output t belongs to the input
frames `t s ... (t + 1) s - 1` and sees none after them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


class CausalConv(nnx.Module):
    """A dense convolution over time with a bias."""

    def __init__(
        self,
        input_size: int,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.history = _history(kernel, 1, stride)
        self.stride = stride
        self.dtype = dtype
        self.kernel = nnx.Param(
            nnx.initializers.he_normal(in_axis=(0, 1))(rngs.params(), (kernel, input_size, width))
        )
        self.bias = nnx.Param(jnp.zeros(width))

    def init_state(self, batch: int) -> jax.Array:
        """Zeros before the first frame: [B, kernel - stride, input_size]."""
        return jnp.zeros((batch, self.history, self.kernel.shape[1]), self.dtype)

    def __call__(self, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, input_size], T a multiple of the stride -> `([B, T // stride, width], state)`."""
        x = jnp.concatenate([state, x.astype(self.dtype)], axis=1)
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel[...].astype(self.dtype),
            (self.stride,),
            "VALID",
            dimension_numbers=("NHC", "HIO", "NHC"),
        )
        return y + self.bias[...].astype(self.dtype)[None, None, :], _last(x, self.history)


class DepthwiseConv(nnx.Module):
    """Each channel convolved over time by itself.

    With frames `ahead`, an output sees so many of the future, and zeros behind the end of the call:
    such a layer takes whole utterances only.

    Written as a sum of shifted products, not as a grouped convolution. Loss and gradient on two CPU
    cores: 11 ms against 26 at 3 taps, 15 against 21 at 5, but 35 against 22 at 15.
    """

    def __init__(
        self,
        width: int,
        kernel: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        ahead: int = 0,
        bias: bool = False,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.history = _history(kernel, dilation, stride) - ahead
        self.ahead = ahead
        self.dilation = dilation
        self.stride = stride
        self.dtype = dtype
        self.kernel = nnx.Param(
            nnx.initializers.he_normal(in_axis=0)(rngs.params(), (kernel, width))
        )
        self.bias = nnx.Param(jnp.zeros(width)) if bias else None

    def init_state(self, batch: int) -> jax.Array:
        """Zeros before the first frame, [B, history, width]: the history is
        (kernel - 1) dilation - (stride - 1) - ahead."""
        return jnp.zeros((batch, self.history, self.kernel.shape[1]), self.dtype)

    def __call__(self, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, width] with T a multiple of the stride -> `([B, T // stride, width], state)`."""
        x = jnp.concatenate([state, x.astype(self.dtype)], axis=1)
        state = _last(x, self.history)
        x = jnp.pad(x, ((0, 0), (0, self.ahead), (0, 0)))
        y = depthwise_taps(x, self.kernel[...].astype(self.dtype), self.dilation, self.stride)
        if self.bias is not None:
            y = y + self.bias[...].astype(self.dtype)[None, None, :]
        return y, state


# Jitted under its name so that the cost counter finds it: nothing else in a model counts products
# of single numbers.
@functools.partial(jax.jit, static_argnums=(2, 3))
def depthwise_taps(x: jax.Array, kernel: jax.Array, dilation: int, stride: int) -> jax.Array:
    """`y[t] = sum_j kernel[j] x[t stride + j dilation]`: [B, N, D] and [k, D] -> [B, T, D]."""
    taps = kernel.shape[0]
    span = x.shape[1] - (taps - 1) * dilation
    return sum(
        (
            kernel[j][None, None, :] * x[:, j * dilation : j * dilation + span : stride]
            for j in range(1, taps)
        ),
        start=kernel[0][None, None, :] * x[:, :span:stride],
    )


def plane_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Over frames and bins: `[B, N, F, C]` and `[k, k', C, W]` -> `[B, N - k + 1, ceil(F / s), W]`.

    Centred over the bins with stride s; over frames, the first k - 1 are the past.
    """
    y: Any = _plane_conv(x, kernel, stride)
    return y


def _direct(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    over_bins = ((kernel.shape[1] - 1) // 2, kernel.shape[1] // 2)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, stride), ((0, 0), over_bins), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _plane_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _direct(x, kernel, stride)


def _plane_conv_fwd(x: jax.Array, kernel: jax.Array, stride: int):
    return _direct(x, kernel, stride), (x, kernel)


def _plane_conv_bwd(stride: int, residuals, cotangent: jax.Array):
    """The gradient to the input is that of the same convolution without a stride.

    What XLA makes of a strided one, a convolution over a cotangent with zeros put in between, takes
    ten times as long on a CPU (52 ms against 5 for 16 channels over 32 bins).
    """
    x, kernel = residuals
    _, pull_kernel = jax.vjp(lambda k: _direct(x, k, stride), kernel)
    _, pull_input = jax.vjp(lambda x: _by_phases(x, kernel, stride), x)
    return *pull_input(cotangent), *pull_kernel(cotangent)


_plane_conv.defvjp(_plane_conv_fwd, _plane_conv_bwd)


def _by_phases(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`plane_conv` with s bins in a row read as channels of one: its stride is 1."""
    batch, frames, bins, channels = x.shape
    taps, over, _, width = kernel.shape
    outputs = -(-bins // stride)
    # Zero taps in front and behind bring both ends to a multiple of the stride.
    left = -(-((over - 1) // 2) // stride)
    front = left * stride - (over - 1) // 2
    groups = -(-(front + over) // stride)
    kernel = jnp.pad(kernel, ((0, 0), (front, groups * stride - front - over), (0, 0), (0, 0)))
    x = jnp.pad(x, ((0, 0), (0, 0), (0, outputs * stride - bins), (0, 0)))
    return jax.lax.conv_general_dilated(
        x.reshape(batch, frames, outputs, stride * channels),
        kernel.reshape(taps, groups, stride * channels, width),
        (1, 1),
        ((0, 0), (left, groups - 1 - left)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _history(kernel: int, dilation: int, stride: int) -> int:
    """Frames of the past that the next output needs besides its own `stride` frames."""
    history = (kernel - 1) * dilation + 1 - stride
    if history < 0:
        raise ValueError(
            f"a kernel of {kernel} with dilation {dilation} leaves out frames at stride {stride}"
        )
    return history


def _last(x: jax.Array, count: int) -> jax.Array:
    return x[:, x.shape[1] - count :]
