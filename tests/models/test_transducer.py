"""The transducer: sizes counted by hand, causality, streams."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.frontend import LogMel
from parley.models.keys import weight_keys
from parley.models.streaming import run_in_chunks
from parley.models.transducer import (
    JointConfig,
    PredictionConfig,
    Transducer,
    TransducerConfig,
    parameter_count,
)

TINY = TransducerConfig(
    vocab_size=7,
    encoder=LSTMEncoderConfig(width=8, layers=2, output=6, reduce_after=1),
    prediction=PredictionConfig(embedding=5, width=8, layers=2, output=6),
    ctc=True,
)


def make(dtype=jnp.float32, **changes) -> Transducer:
    return Transducer(dataclasses.replace(TINY, **changes), rngs=nnx.Rngs(0), dtype=dtype)


@pytest.fixture(scope="module")
def model() -> Transducer:
    return make()


def lstm_size(inputs: int, width: int) -> int:
    """Four gates, each with a matrix from the input, one from the state, and one bias."""
    return 4 * width * (inputs + width + 1)


def test_parameters_of_the_30m_shape():
    """Seven LSTM-640 on 192 inputs, two LSTM-640 on 512, joint 512, 2501 tokens: 31.26 M."""
    config = TransducerConfig(
        vocab_size=2501,
        encoder=LSTMEncoderConfig(width=640, layers=7, output=512),
        prediction=PredictionConfig(embedding=512, width=640, layers=2, output=512),
    )
    encoder = 2_132_480 + 6 * 3_279_360 + (640 * 512 + 512)
    prediction = 2501 * 512 + 2_951_680 + 3_279_360 + (640 * 512 + 512)
    joint = 512 * 2501 + 2501
    assert [lstm_size(n, 640) for n in (192, 640, 512)] == [2_132_480, 3_279_360, 2_951_680]
    assert encoder + prediction + joint == 31_259_589

    model = nnx.eval_shape(lambda: Transducer(config, rngs=weight_keys(0)))
    assert parameter_count(model) == 31_259_589


def test_parameters_of_every_part(model: Transducer):
    encoder = lstm_size(192, 8) + lstm_size(2 * 8, 8) + 8 * 6 + 6
    prediction = 7 * 5 + lstm_size(5, 8) + lstm_size(8, 8) + 8 * 6 + 6
    assert parameter_count(model.encoder) == encoder
    assert parameter_count(model.prediction) == prediction
    assert parameter_count(model) == encoder + prediction + 2 * (6 * 7 + 7)


def test_steps_and_seconds(model: Transducer):
    assert model.samples_per_step == 160 * 3 * 2
    assert model.frame_s == pytest.approx(0.06)


def test_prediction_steps_are_the_sequence(model: Transducer):
    labels = jnp.array([[3, 1, 4], [1, 5, 2]])
    whole = model.predict(labels)
    assert whole.shape == (2, 4, 6)
    state = model.init_prediction(2)
    for u, tokens in enumerate([jnp.zeros(2, jnp.int32), *labels.T]):
        predicted, state = model.predict_step(tokens, state)
        np.testing.assert_allclose(predicted, whole[:, u], atol=1e-6)


def test_prediction_sees_no_later_label_and_survives_any_padding(model: Transducer):
    clean = model.predict(jnp.array([[3, 1, 0, 0]]))
    for padding in (-1, 6, 2**31 - 1):
        filled = model.predict(jnp.array([[3, 1, padding, padding]]))
        np.testing.assert_array_equal(filled[:, :3], clean[:, :3])
        assert np.isfinite(filled).all()


def test_joint_broadcasts_and_follows_its_formula():
    model = make()
    encoded = jax.random.normal(jax.random.key(0), (2, 3, 1, 6))
    predicted = jax.random.normal(jax.random.key(1), (2, 1, 4, 6))
    output = model.joiner.output
    assert output.bias is not None
    output.bias[...] = jnp.arange(7.0)
    kernel = np.asarray(output.kernel[...])
    expected = np.tanh(np.asarray(encoded + predicted)) @ kernel + np.arange(7.0)
    logits = model.joint(encoded, predicted)
    assert logits.shape == (2, 3, 4, 7)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("cycle", [(960,), (5000, 333, 1)])
def test_stream_is_the_whole(model: Transducer, cycle: tuple[int, ...]):
    random = np.random.default_rng(0)
    samples = (random.normal(size=(2, 16000)) * 2000).astype(np.int16)
    x, lengths = model.features(jnp.asarray(samples), jnp.array([16000, 16000]))
    whole, _ = model.encode(x, lengths)
    step = jax.jit(lambda chunk, state: model.stream_step(chunk, state))
    streamed = run_in_chunks(step, model.init_stream(2), samples, cycle, model.samples_per_step)
    assert streamed.shape == (2, 16, 6)
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


def test_bfloat16_trains_in_float32_parameters():
    """One gradient of everything: logits and gradients in float32, near the float32 model's."""
    samples = (np.random.default_rng(0).normal(size=(2, 8000)) * 2000).astype(np.int16)

    def gradients(dtype):
        model = make(dtype)
        assert isinstance(model.frontend, LogMel)
        model.frontend.mean[...] = jnp.full(64, 18.0)  # about what this noise has
        graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

        @jax.jit
        def loss(parameters):
            model = nnx.merge(graphdef, parameters, rest)
            x, lengths = model.features(jnp.asarray(samples), jnp.array([8000, 6000]))
            encoded, _ = model.encode(x, lengths)
            predicted = model.predict(jnp.array([[1, 2], [3, 4]]))
            logits = model.joint(encoded[:, :, None], predicted[:, None])
            assert logits.dtype == jnp.float32
            total = jax.nn.log_softmax(logits)[..., 1].mean()
            return total + model.ctc_logits(encoded).astype(jnp.float32).mean()

        return jax.value_and_grad(loss)(parameters)

    wide, narrow = gradients(jnp.float32), gradients(jnp.bfloat16)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(narrow))
    assert float(narrow[0]) == pytest.approx(float(wide[0]), rel=0.02)
    for ours, reference in zip(jax.tree.leaves(narrow[1]), jax.tree.leaves(wide[1]), strict=True):
        np.testing.assert_allclose(ours, reference, atol=0.05 * float(jnp.abs(reference).max()))


def test_feature_statistics_are_not_trained(model: Transducer):
    _, parameters, rest = nnx.split(model, nnx.Param, ...)
    assert not any("frontend" in path for path, _ in nnx.to_flat_state(parameters))
    assert {path[-1] for path, _ in nnx.to_flat_state(rest)} == {"mean", "std"}


def test_programming_mistakes_are_named(model: Transducer):
    with pytest.raises(ValueError, match="multiples of 960 samples, not 1000"):
        model.stream_step(jnp.zeros((1, 1000), jnp.int16), model.init_stream(1))
    with pytest.raises(ValueError, match="no CTC head"):
        make(ctc=False).ctc_logits(jnp.zeros((1, 2, 6)))
    with pytest.raises(ValueError, match="not 6 and 4"):
        make(prediction=PredictionConfig(embedding=5, width=8, layers=1, output=4))
    with pytest.raises(ValueError, match="tanh, relu; it is 'gelu'"):
        make(joint=JointConfig(activation="gelu"))
