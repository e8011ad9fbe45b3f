"""What every encoder owes to streaming, as a protocol and as one check of it.

An encoder has one set of weights and two ways to run: `encoder(x, lengths)` over whole utterances,
and `step(chunk, state)` from `init_state(batch)`. Both give the same numbers, and neither looks
further ahead than `lookahead` says.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class Encoder(Protocol):
    """An encoder that runs whole and in chunks.

    Attributes:
      stride: input frames for one output frame; output frame t belongs to the input frames
        `t * stride ... (t + 1) * stride - 1`.
      lookahead: input frames after these that output frame t sees.
      receptive_field: input frames that it sees from its last one backwards, that one included;
        None: all.
      chunk: output frames that come at once: whole and in steps, an encoder answers in multiples of
        them, for multiples of `stride * chunk` input frames. The look-ahead within is what such a
        chunk is for.

    One that gives several channels has them as rows, `channels` for each row of its input.
    """

    stride: int
    lookahead: int
    receptive_field: int | None
    chunk: int

    def __call__(self, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] and [B] -> `(y [B, T // stride, output], lengths [B])`, down to whole chunks
        of `chunk` frames."""
        ...

    def init_state(self, batch: int) -> Any:
        """The state before the first frame."""
        ...

    def step(self, chunk: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """[B, n, D], n a multiple of `stride * chunk` -> `(y [B, n // stride, output], state)`."""
        ...


class Rechunker:
    """Cuts ragged chunks [B, n, ...] on the host into multiples of `multiple`, keeping the rest.

    Works for samples [B, n] and for features [B, n, D] alike.
    """

    def __init__(self, multiple: int):
        if multiple < 1:
            raise ValueError(f"chunks must be a multiple of at least 1, not {multiple}")
        self.multiple = multiple
        self._rest: np.ndarray | None = None

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Takes in a chunk; returns the longest multiple that is there, perhaps of no length."""
        if self._rest is not None:
            chunk = np.concatenate([self._rest, chunk], axis=1)
        ready = chunk.shape[1] // self.multiple * self.multiple
        # A copy: the caller may overwrite a buffer that it handed in.
        self._rest = chunk[:, ready:].copy()
        return chunk[:, :ready]

    @property
    def pending(self) -> int:
        """Entries that wait for the rest of their multiple."""
        return 0 if self._rest is None else self._rest.shape[1]


def run_in_chunks(
    step: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    state: Any,
    x: np.ndarray,
    sizes: Sequence[int],
    multiple: int,
) -> np.ndarray:
    """Feeds x [B, T, ...] through `step` in chunks of the given sizes, over and over.

    Returns:
      The outputs, one after the other on axis 1.
    """
    rechunker = Rechunker(multiple)
    outputs, at, turn = [], 0, 0
    while at < x.shape[1]:
        size = sizes[turn % len(sizes)]
        chunk = rechunker.push(x[:, at : at + size])
        at, turn = at + size, turn + 1
        if chunk.shape[1]:
            y, state = step(jnp.asarray(chunk), state)
            outputs.append(np.asarray(y))
    return np.concatenate(outputs, axis=1)


def assert_streaming_contract(
    encoder: Encoder,
    input_size: int,
    *,
    batch: int = 3,
    frames: int = 29,
    chunks: Sequence[Sequence[int]] = ((1,), (3, 4), (50,)),
    tolerance: float = 1e-4,
    seed: int = 0,
) -> None:
    """Checks an encoder: chunks equal the whole, no future, no padding, no other row.

    Args:
      encoder: in float32.
      input_size: D of its input [B, T, D].
      batch: rows, at least 2.
      frames: T.
      chunks: each entry is a cycle of chunk sizes to stream in.
      tolerance: largest absolute difference where rounding may differ.
      seed: of the random input.

    Raises:
      AssertionError: says which promise is broken.
    """
    random = np.random.default_rng(seed)
    x = random.normal(size=(batch, frames, input_size)).astype(np.float32)
    full = jnp.full((batch,), frames, jnp.int32)
    whole = jax.jit(lambda x, lengths: encoder(x, lengths))
    y, lengths = whole(x, full)
    multiple = encoder.stride * encoder.chunk
    expected, channels = frames // multiple * encoder.chunk, getattr(encoder, "channels", 1)
    rows = batch * channels
    assert y.shape[:2] == (rows, expected), f"output is {y.shape}, not [{rows}, {expected}, ...]"
    assert np.all(np.asarray(lengths) == expected), f"lengths are {lengths}, not {expected}"

    step = jax.jit(lambda chunk, state: encoder.step(chunk, state))
    for sizes in chunks:
        streamed = run_in_chunks(step, encoder.init_state(batch), x, sizes, multiple)
        _assert_close(streamed, y, tolerance, f"chunks of {tuple(sizes)} frames differ from whole")
    for row in range(batch):
        alone, _ = whole(x[row : row + 1], full[:1])
        own = y[row * channels : (row + 1) * channels]
        _assert_close(alone, own, tolerance, f"row {row} alone differs from the batch")

    _assert_reach(encoder, x, full)
    _assert_padding_ignored(whole, x, encoder, channels, tolerance)


def _assert_close(actual: Any, desired: Any, tolerance: float, message: str) -> None:
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance, err_msg=message)


def _assert_reach(encoder: Encoder, x: np.ndarray, lengths: jax.Array) -> None:
    """Gradients of every output frame, exactly zero outside what the frame may see."""
    first, length = jnp.asarray(x[:1]), lengths[:1]

    @jax.jit
    def reach(x: jax.Array) -> jax.Array:
        y, pull = jax.vjp(lambda x: encoder(x, length)[0], x)
        # Random weights: a plain sum has no gradient through a normalisation.
        weights = jax.random.normal(jax.random.key(0), y.shape, y.dtype)
        one_frame = jnp.eye(y.shape[1], dtype=y.dtype)[:, None, :, None] * weights[None]
        (gradients,) = jax.vmap(pull)(one_frame)
        return jnp.abs(gradients[:, 0]).max(axis=-1)  # [output frames, input frames]

    depends = np.asarray(reach(first)) != 0.0
    output, frame = np.indices(depends.shape)
    last = (output + 1) * encoder.stride - 1
    ahead = depends & (frame > last + encoder.lookahead)
    assert not ahead.any(), (
        f"output frame {np.argwhere(ahead)[0][0]} has a gradient from input frame "
        f"{np.argwhere(ahead)[0][1]}: further ahead than lookahead={encoder.lookahead}"
    )
    assert depends[output == (frame // encoder.stride)].any(), "the output ignores the input"
    if encoder.receptive_field is not None:
        behind = depends & (frame <= last - encoder.receptive_field)
        assert not behind.any(), (
            f"output frame {np.argwhere(behind)[0][0]} has a gradient from input frame "
            f"{np.argwhere(behind)[0][1]}: further back than "
            f"receptive_field={encoder.receptive_field}"
        )


def _assert_padding_ignored(
    whole: Callable[..., tuple[jax.Array, jax.Array]],
    x: np.ndarray,
    encoder: Encoder,
    channels: int,
    tolerance: float,
) -> None:
    """Rows of different lengths: zeros, NaN or noise after them give the same, gradients too."""
    batch, frames, _ = x.shape
    lengths = jnp.asarray([frames - (3 * row) % frames for row in range(batch)], jnp.int32)
    padding = np.arange(frames)[None, :] >= np.asarray(lengths)[:, None]

    @jax.jit
    def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y, counts = whole(x, lengths)
            kept = jnp.arange(y.shape[1])[None, :] < counts[:, None]
            return jnp.sum(jnp.sin(jnp.where(kept[:, :, None], y, 0.0))), y

        gradient, y = jax.grad(total, has_aux=True)(x)
        return y, gradient

    reference, gradient = run(np.where(padding[:, :, None], np.float32(0.0), x))
    assert np.isfinite(reference).all(), "outputs are not finite"
    assert not np.asarray(gradient)[padding].any(), "the padding has a gradient"
    for filling in (np.nan, 1e3):
        y, filled_gradient = run(np.where(padding[:, :, None], np.float32(filling), x))
        message = f"padding of {filling} changes"
        np.testing.assert_array_equal(y, reference, f"{message} the output")
        np.testing.assert_array_equal(filled_gradient, gradient, f"{message} the gradient")
    last = int(lengths[-1])
    alone, _ = whole(x[-1:, :last], lengths[-1:])
    kept = reference[-channels:, : last // (encoder.stride * encoder.chunk) * encoder.chunk]
    _assert_close(kept, alone, tolerance, "padding changes a row")
