"""ConvRNN-T: an LSTM stack behind a local and a global causal convolutional encoder.

                      +-------------------------------+
                      |                               v
    features -> local encoder -> global encoder ----> fusion -> LSTMs -> output
        |                                                        ^
        +------------------------- shortcut ---------------------+

The local encoder sees 5 frames and 5 neighbouring mel bins at a time. The global one is a stack of
residual blocks of dilated depthwise convolutions, each gated by squeeze-and-excitation whose
squeeze is the mean of all activations up to the present frame:

    u = BN(relu(W1 z))      v = BN(relu(depthwise(u)))      y = BN(W3 v)      z <- z + gate(y) y

Source: Radfar et al. 2022, "ConvRNN-T: Convolutional augmented recurrent neural network
transducers for streaming speech recognition", Interspeech, arXiv 2209.14868. Ours are the strides
over frequency (with stride 1 the local encoder alone costs several times the LSTMs) and the
shortcut, without which the tiny preset hears nothing for its first thousand steps
(docs/results/encoders.md).
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..convolution import CausalConv, DepthwiseConv, plane_conv
from ..layers import LSTMState, dropout, split_key
from ..normalization import BatchNorm
from ..remat import run_block, run_blocks
from ..squeeze import SqueezeExcite, SqueezeMode, SqueezeState
from .causal import CausalEncoder
from .lstm import LSTMEncoder, LSTMEncoderConfig


@dataclasses.dataclass(frozen=True)
class ConvRNNTConfig:
    """Shape of a ConvRNN-T encoder; widths are channels, times are in input frames.

    Attributes:
      lstm: the LSTM stack behind the convolutions, and the encoder's output.
      width: of the local encoder's output, of the global encoder and of their fusion.
      bins: mel bins of a frame; where frames are stacked they are the input channels.
      local: convolutions over time and frequency, over time alone, or none.
      channels, frequency_strides: of the local encoder's layers.
      kernel: of the local encoder, over time and over frequency.
      global_blocks: residual blocks of the global encoder; 0 leaves it out.
      global_kernel: of its depthwise convolutions; block b is dilated by 2^b, b from 1.
      dilated, residual: False for ablations.
      squeeze: what squeeze-and-excitation averages over; "global" cannot stream.
      squeeze_tau, squeeze_window: for "ema" and "window".
      norm: of the global encoder's activations.
      global_input: the local encoder's output (serial), or the features (parallel).
      merge: how local and global meet.
      subsample: this many frames in a row become one where the local encoder ends.
      shortcut: the LSTMs see the features too, beside what the convolutions made of them.
      dropout: share of a global block's branch that is dropped in training.
      kind: tells recipes of different families apart.
    """

    lstm: LSTMEncoderConfig
    width: int = 320
    bins: int = 64
    local: Literal["2d", "1d", "off"] = "2d"
    channels: tuple[int, ...] = (100, 100, 64, 64)
    frequency_strides: tuple[int, ...] = (2, 2, 2, 1)
    kernel: int = 5
    global_blocks: int = 6
    global_kernel: int = 3
    dilated: bool = True
    residual: bool = True
    squeeze: SqueezeMode = "cumulative"
    squeeze_reduction: int = 16
    squeeze_tau: float = 100.0
    squeeze_window: int = 100
    norm: Literal["batch", "layer"] = "batch"
    global_input: Literal["serial", "parallel"] = "serial"
    merge: Literal["concat", "sum"] = "concat"
    subsample: int = 1
    shortcut: bool = False
    dropout: float = 0.1
    kind: Literal["conv-rnnt"] = "conv-rnnt"

    @property
    def output(self) -> int:
        return self.lstm.output


class PlaneConv(nnx.Module):
    """A convolution over time (causal) and frequency (centred): [B, T, F, C] -> [B, T, F', C']."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        self.stride = stride
        self.dtype = dtype
        he = nnx.initializers.he_normal(in_axis=(0, 1, 2))
        self.kernel = nnx.Param(he(rngs.params(), (kernel, kernel, channels, width)))
        self.bias = nnx.Param(jnp.zeros(width))

    def init_state(self, batch: int, bins: int) -> jax.Array:
        """The frames before the first one: zeros [B, kernel - 1, bins, C]."""
        taps, _, channels, _ = self.kernel.shape
        return jnp.zeros((batch, taps - 1, bins, channels), self.dtype)

    def __call__(self, x: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.concatenate([state, x], axis=1)
        taps = self.kernel.shape[0]
        y = plane_conv(x, self.kernel[...].astype(self.dtype), self.stride)
        y = y + self.bias[...].astype(self.dtype)[None, None, None, :]
        return y, x[:, x.shape[1] - (taps - 1) :]


class LocalEncoder(nnx.Module):
    """Convolutions over neighbouring frames (and bins); then `subsample` frames at a time are
    projected to `width`."""

    def __init__(
        self, config: ConvRNNTConfig, input_size: int, *, rngs: nnx.Rngs, dtype: DTypeLike
    ):
        if len(config.channels) != len(config.frequency_strides):
            raise ValueError(
                f"{len(config.channels)} local layers need as many frequency strides, not "
                f"{len(config.frequency_strides)}"
            )
        self.dtype = dtype
        self.plane = config.local == "2d"
        bins = [config.bins]
        layers = []
        if config.local == "2d":
            if input_size % config.bins:
                raise ValueError(f"features of {input_size} are not stacks of {config.bins} bins")
            size = input_size // config.bins
            for width, stride in zip(config.channels, config.frequency_strides, strict=True):
                layers.append(PlaneConv(size, width, config.kernel, stride, rngs=rngs, dtype=dtype))
                bins.append((bins[-1] - 1) // stride + 1)
                size = width
            size *= bins[-1]
        else:
            size = input_size
            for width in config.channels if config.local == "1d" else ():
                layers.append(CausalConv(size, width, config.kernel, rngs=rngs, dtype=dtype))
                size = width
        self.bins = tuple(bins)
        """Mel bins before each layer, and after the last."""
        self.layers = nnx.List(layers)
        self.subsample = config.subsample
        self.output = nnx.Linear(config.subsample * size, config.width, dtype=dtype, rngs=rngs)

    def init_state(self, batch: int) -> tuple[jax.Array, ...]:
        bins = self.bins if self.plane else [None] * len(self.layers)
        return tuple(
            layer.init_state(batch) if count is None else layer.init_state(batch, count)
            for layer, count in zip(self.layers, bins, strict=False)
        )

    def __call__(
        self, x: jax.Array, state: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """[B, T, D] -> [B, T // subsample, width]."""
        x = x.astype(self.dtype)
        if self.plane:
            # The frames of a stack are channels over the same bins.
            x = x.reshape(*x.shape[:2], -1, self.bins[0]).swapaxes(2, 3)
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            x, kept = layer(x, before)
            x = jax.nn.relu(x)
            after.append(kept)
        return self.output(x.reshape(x.shape[0], x.shape[1] // self.subsample, -1)), tuple(after)


class GlobalState(NamedTuple):
    """Of one block: the end of what its convolution saw, and its squeeze."""

    conv: jax.Array
    squeeze: SqueezeState


class GlobalBlock(nnx.Module):
    """Pointwise, dilated depthwise, pointwise; gated by what was heard so far; residual."""

    def __init__(self, config: ConvRNNTConfig, dilation: int, *, rngs: nnx.Rngs, dtype: DTypeLike):
        self.config = config
        width = config.width
        self.widen = nnx.Linear(width, 2 * width, dtype=dtype, rngs=rngs)
        self.depthwise = DepthwiseConv(
            2 * width, config.global_kernel, dilation=dilation, rngs=rngs, dtype=dtype
        )
        self.narrow = nnx.Linear(2 * width, width, dtype=dtype, rngs=rngs)
        self.norms = nnx.List(
            [
                BatchNorm(size, dtype=dtype)
                if config.norm == "batch"
                else nnx.LayerNorm(size, dtype=dtype, rngs=rngs)
                for size in (2 * width, 2 * width, width)
            ]
        )
        self.squeeze = SqueezeExcite(
            width,
            config.squeeze_reduction,
            config.squeeze,
            tau=config.squeeze_tau,
            window=config.squeeze_window,
            rngs=rngs,
            dtype=dtype,
        )

    def init_state(self, batch: int) -> GlobalState:
        return GlobalState(self.depthwise.init_state(batch), self.squeeze.init_state(batch))

    def __call__(
        self,
        z: jax.Array,
        state: GlobalState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, GlobalState]:
        """[B, n, width] -> [B, n, width]; see `ConvRNNTEncoder.run`."""

        def norm(index: int, x: jax.Array) -> jax.Array:
            layer = self.norms[index]
            if isinstance(layer, BatchNorm):
                return layer(x, within, train=key is not None)
            return layer(x)

        u = norm(0, jax.nn.relu(self.widen(z)))
        v, conv = self.depthwise(u, state.conv)
        y = norm(2, self.narrow(norm(1, jax.nn.relu(v))))
        y, squeeze = self.squeeze(y, state.squeeze, within)
        y = dropout(y, self.config.dropout, key)
        return z + y if self.config.residual else y, GlobalState(conv, squeeze)


class ConvRNNTState(NamedTuple):
    """What a stream carries from one chunk to the next."""

    local: tuple[jax.Array, ...]
    blocks: tuple[GlobalState, ...]
    lstm: tuple[LSTMState, ...]


class ConvRNNTEncoder(CausalEncoder):
    """Local encoder, global encoder, fusion, LSTMs.

    Attributes:
      stride: input frames for one output frame.
      lookahead: input frames of the future that an output frame sees: 0.
      receptive_field: input frames of the past that it sees: all (None).
      convolutional_field: input frames that the convolutions alone see, without squeeze and LSTMs.
    """

    def __init__(
        self,
        config: ConvRNNTConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config = config
        self.dtype = dtype
        self.subsample = config.subsample
        self.receptive_field: int | None = None
        self.local = LocalEncoder(config, input_size, rngs=rngs, dtype=dtype)
        parallel = config.global_input == "parallel"
        self.enter = (
            nnx.Linear(config.subsample * input_size, config.width, dtype=dtype, rngs=rngs)
            if parallel
            else None
        )
        dilations = [2**b if config.dilated else 1 for b in range(1, config.global_blocks + 1)]
        self.blocks = nnx.List(
            [GlobalBlock(config, dilation, rngs=rngs, dtype=dtype) for dilation in dilations]
        )
        fused = config.width * (2 if config.merge == "concat" and dilations else 1)
        self.fusion = nnx.Linear(fused, config.width, dtype=dtype, rngs=rngs)
        heard = config.width + (config.subsample * input_size if config.shortcut else 0)
        self.lstm = LSTMEncoder(config.lstm, heard, rngs=rngs, dtype=dtype)
        self.stride = config.subsample * self.lstm.stride
        seen_locally = len(self.local.layers) * (config.kernel - 1)
        seen_globally = (config.global_kernel - 1) * sum(dilations)
        self.convolutional_field = config.subsample * (1 + seen_globally) + seen_locally

    def init_state(self, batch: int) -> ConvRNNTState:
        """The state before the first frame."""
        return ConvRNNTState(
            self.local.init_state(batch),
            tuple(block.init_state(batch) for block in self.blocks),
            self.lstm.init_state(batch),
        )

    def run(
        self,
        x: jax.Array,
        state: ConvRNNTState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, ConvRNNTState]:
        """The next frames [B, n, D]; `within` [B, n] where they are whole utterances."""
        keys = split_key(key, len(self.blocks) + 1)
        stacked = x.reshape(x.shape[0], x.shape[1] // self.subsample, -1)
        with jax.named_scope("local"):
            # One block of all layers, so that what lies between them is not kept either.
            local, after_local = run_block(self.local, x, state.local)
        with jax.named_scope("global"):
            z = local if self.enter is None else self.enter(stacked)
            if within is not None:
                within = within[:, self.subsample - 1 :: self.subsample]
            z, after_blocks = run_blocks(self.blocks, z, state.blocks, keys[1:], within)
        with jax.named_scope("fusion"):
            if not self.blocks:
                z = local
            elif self.config.merge == "concat":
                z = jnp.concatenate([local, z], axis=-1)
            else:
                z = local + z
            z = self.fusion(z)
            if self.config.shortcut:
                z = jnp.concatenate([z, stacked.astype(z.dtype)], axis=-1)
        y, after_lstm = self.lstm.run(z, state.lstm, key=keys[0])
        return y, ConvRNNTState(after_local, tuple(after_blocks), after_lstm)
