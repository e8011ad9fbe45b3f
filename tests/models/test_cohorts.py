"""The cohort as an input: unknown changes nothing, streams hold, training forgets some of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from marks import first_is_quick

from parley.models.cohorts import CohortConfig, CohortInput
from parley.models.encoders.conv_rnnt import ConvRNNTConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.streaming import assert_streaming_contract, run_in_chunks
from parley.models.transducer import PredictionConfig, Transducer, TransducerConfig

LSTM = LSTMEncoderConfig(width=8, layers=2, output=6, reduce_after=1)
ENCODERS = {
    "lstm": LSTM,
    "conv_rnnt": ConvRNNTConfig(
        lstm=dataclasses.replace(LSTM, reduce_after=None),
        width=8,
        channels=(4,),
        frequency_strides=(4,),
        global_blocks=1,
        squeeze="off",
        dropout=0.0,
    ),
}
KINDS = ("onehot", "posterior", "learned")


def make(encoder: str = "lstm", **cohort) -> Transducer:
    config = TransducerConfig(
        vocab_size=7,
        encoder=ENCODERS[encoder],
        prediction=PredictionConfig(embedding=5, width=8, layers=1, output=6),
        cohort=CohortConfig(**cohort),
    )
    return Transducer(config, rngs=nnx.Rngs(0))


def trained(model: Transducer, seed: int = 1) -> CohortInput:
    """Its input with a projection that says something."""
    assert model.cohort is not None
    shape = model.cohort.projection[...].shape
    model.cohort.projection[...] = jax.random.normal(jax.random.key(seed), shape)
    return model.cohort


@pytest.fixture(scope="module")
def features():
    random = np.random.default_rng(0)
    samples = jnp.asarray((random.normal(size=(2, 16000)) * 2000).astype(np.int16))
    return samples, make().features(samples, jnp.array([16000, 9000]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_input_leaves_the_model_as_it_was(features, kind):
    """Weights of the other parts too: they are drawn before it."""
    _, (x, lengths) = features
    plain, _ = make().encode(x, lengths)
    model = make(kind=kind)
    for cohort in (None, jnp.eye(3)[:2]):
        np.testing.assert_array_equal(model.encode(x, lengths, cohort=cohort)[0], plain)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_is_what_nobody_told(features, kind):
    _, (x, lengths) = features
    model = make(kind=kind)
    trained(model)
    plain, _ = make().encode(x, lengths)
    np.testing.assert_array_equal(model.encode(x, lengths)[0], plain)
    np.testing.assert_array_equal(model.encode(x, lengths, cohort=jnp.zeros((2, 3)))[0], plain)
    told = model.encode(x, lengths, cohort=jnp.eye(3)[:2])[0]
    assert float(jnp.abs(told - plain).max()) > 1e-3


def test_it_is_the_vector_appended_to_every_frame(features):
    """A linear layer over [x; c] with the weights [K; W K] sees the same."""
    _, (x, _) = features
    model = make(kind="learned", width=2)
    cohort = trained(model)
    assert cohort.table is not None
    posterior = jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    kernel = np.random.default_rng(0).normal(size=(x.shape[2], 5)).astype(np.float32)
    c = jnp.broadcast_to((posterior @ cohort.table[...])[:, None], (2, x.shape[1], 2))
    below = np.asarray(cohort.projection[...]) @ kernel
    appended = jnp.concatenate([x, c], axis=2) @ jnp.concatenate([kernel, below])
    np.testing.assert_allclose(model.told(x, posterior) @ kernel, appended, rtol=1e-4, atol=1e-3)


class Told:
    """An encoder behind the input, for one cohort: the contract is asked of both together."""

    def __init__(self, model: Transducer):
        self.model, encoder = model, model.encoder
        self.stride, self.lookahead = encoder.stride, encoder.lookahead
        self.receptive_field, self.chunk = encoder.receptive_field, encoder.chunk

    def __call__(self, x, lengths):
        return self.model.encode(x, lengths)

    def init_state(self, batch):
        return self.model.encoder.init_state(batch)

    def step(self, chunk, state):
        return self.model.encoder.step(self.model.told(chunk), state)


@pytest.mark.parametrize("encoder", first_is_quick(ENCODERS))
def test_streaming_contract(encoder):
    model = make(encoder, kind="onehot")
    trained(model).default[...] = jnp.array([0.0, 1.0, 0.0])
    assert_streaming_contract(Told(model), model.config.frontend.size)


def test_a_stream_hears_the_cohort_that_was_set(features):
    samples, _ = features
    model = make(kind="onehot")
    trained(model).default[...] = jnp.array([1.0, 0.0, 0.0])
    x, lengths = model.features(samples, jnp.array([16000, 16000]))
    told = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (2, 3))
    whole, _ = model.encode(x, lengths, cohort=told)
    step = jax.jit(lambda chunk, state: model.stream_step(chunk, state))
    streamed = run_in_chunks(
        step, model.init_stream(2), np.asarray(samples), (5000, 333), model.samples_per_step
    )
    np.testing.assert_allclose(streamed, whole, atol=1e-4)


def test_training_forgets_a_share_of_the_cohorts():
    model = make(kind="onehot", dropout=0.2)
    cohort = trained(model)
    x = jnp.zeros((2000, 1, model.config.frontend.size))
    rows = jnp.eye(3)[jnp.arange(2000) % 3]
    y = cohort(x, rows, key=jax.random.key(0))[:, 0]
    expected = rows @ cohort.projection[...]
    forgotten = jnp.all(y == 0.0, axis=1)
    assert float(forgotten.mean()) == pytest.approx(0.2, abs=0.03)
    np.testing.assert_allclose(y[~forgotten], expected[~forgotten], rtol=1e-5)
