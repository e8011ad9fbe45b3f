"""The check itself: it passes an honest encoder and names the fault of each dishonest one."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from parley.models.streaming import Rechunker, assert_streaming_contract


class Difference:
    """Honest: y[t] = x[t] - x[t-1] / 2."""

    stride, lookahead, chunk = 1, 0, 1
    receptive_field: int | None = 2

    def __call__(self, x, lengths):
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        x = jnp.where(within[:, :, None], x, 0.0)
        return self.step(x, self.init_state(x.shape[0]))[0], lengths

    def init_state(self, batch: int) -> Any:
        return jnp.zeros((batch, 1, 4))

    def step(self, chunk, state):
        x = jnp.concatenate([state, chunk], axis=1)
        return x[:, 1:] - x[:, :-1] / 2, x[:, -1:]


class Forgetful(Difference):
    """Drops its state between chunks."""

    def step(self, chunk, state):
        y, _ = super().step(chunk, state)
        return y, self.init_state(chunk.shape[0])


class Clairvoyant(Difference):
    """Sees one frame of the future, so faintly that no output shows it."""

    def __call__(self, x, lengths):
        y, lengths = super().__call__(x, lengths)
        ahead = jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)
        return y + 1e-7 * jnp.where(jnp.isnan(ahead), 0.0, ahead), lengths


class Centred(Difference):
    """Takes the mean of the whole utterance off."""

    def __call__(self, x, lengths):
        y, lengths = super().__call__(x, lengths)
        return y - y.mean(axis=1, keepdims=True), lengths


class Multiplying(Difference):
    """Masks by multiplication, which keeps NaN."""

    def __call__(self, x, lengths):
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        return self.step(x * within[:, :, None], self.init_state(x.shape[0]))[0], lengths


class Overlong(Difference):
    """Counts a frame that the padding gave."""

    def __call__(self, x, lengths):
        y, _ = self.step(x, self.init_state(x.shape[0]))
        return y, jnp.minimum(lengths + 1, x.shape[1])


class Mixing(Difference):
    """Lets the rows of a batch see each other."""

    def step(self, chunk, state):
        y, state = super().step(chunk, state)
        return y - y.mean(axis=0, keepdims=True), state


class Understated(Difference):
    """Sees further back than it says."""

    receptive_field = 1


class Constant(Difference):
    """Says nothing about its input."""

    def step(self, chunk, state):
        return jnp.ones_like(chunk), state


class Unstrided(Difference):
    """Promises half the frames and returns all."""

    stride = 2


def test_an_honest_encoder_passes():
    assert_streaming_contract(Difference(), 4)


@pytest.mark.parametrize(
    ("encoder", "fault"),
    [
        (Forgetful, "frames differ from whole"),
        (Clairvoyant, "further ahead than lookahead=0"),
        (Centred, "frames differ from whole"),
        (Multiplying, "padding of nan changes the output"),
        (Overlong, "the padding has a gradient"),
        (Mixing, "alone differs from the batch"),
        (Understated, "further back than receptive_field=1"),
        (Constant, "the output ignores the input"),
        (Unstrided, r"output is \(3, 29, 4\)"),
    ],
)
def test_a_dishonest_encoder_fails(encoder: type, fault: str):
    with pytest.raises(AssertionError, match=fault):
        assert_streaming_contract(encoder(), 4)


def test_declared_lookahead_is_allowed_in_gradients():
    encoder = Clairvoyant()
    encoder.lookahead = 1
    # What is left is its other fault: the last frame before the padding sees the padding.
    with pytest.raises(AssertionError, match="the padding has a gradient"):
        assert_streaming_contract(encoder, 4)


@pytest.mark.parametrize("multiple", [1, 4])
def test_rechunker_returns_everything_in_multiples(multiple: int):
    random = np.random.default_rng(0)
    whole = random.normal(size=(2, 57, 3))
    rechunker, parts, at = Rechunker(multiple), [], 0
    while at < 57:
        size = int(random.integers(0, 9))
        buffer = whole[:, at : at + size].copy()
        parts.append(rechunker.push(buffer).copy())
        buffer[:] = np.nan  # a caller may use its buffer again
        at += size
    assert all(part.shape[1] % multiple == 0 for part in parts)
    assert rechunker.pending == 57 % multiple
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[:, : 57 - rechunker.pending])


def test_rechunker_needs_a_multiple():
    with pytest.raises(ValueError, match="at least 1"):
        Rechunker(0)
