"""The silence in which a causal model finishes its last word."""

import jax.numpy as jnp
import numpy as np
import pytest

from parley.models.frontend import FrontendConfig, LogMel, append_tail

CONFIG = FrontendConfig(bins=16)


def test_a_row_is_its_samples_and_then_silence():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((3, 2000)).astype(np.float32)
    samples[0, 1500:] = np.nan  # padding may hold anything
    samples[1] = np.nan
    longer, lengths = append_tail(jnp.asarray(samples), jnp.asarray([1500, 0, 2000]), CONFIG)
    assert CONFIG.tail == 3840
    assert longer.shape == (3, 2000 + CONFIG.tail)
    np.testing.assert_array_equal(lengths, [1500 + CONFIG.tail, 0, 2000 + CONFIG.tail])
    np.testing.assert_array_equal(longer[0, :1500], samples[0, :1500])
    np.testing.assert_array_equal(longer[2, :2000], samples[2])
    assert not np.any(longer[0, 1500:])
    assert not np.any(longer[1])
    assert not np.any(longer[2, 2000:])


@pytest.mark.slow
def test_a_batch_hears_what_a_stream_with_a_tail_hears():
    frontend = LogMel(CONFIG)
    samples = np.random.default_rng(1).integers(-3000, 3000, (1, 4000)).astype(np.int16)
    padded = np.pad(samples, ((0, 0), (0, 777)))
    x, lengths = frontend(*append_tail(jnp.asarray(padded), jnp.asarray([4000]), CONFIG))
    fed = jnp.asarray(np.pad(samples, ((0, 0), (0, CONFIG.tail))))
    streamed, _ = frontend.step(fed, frontend.init_state(1))
    np.testing.assert_allclose(x[:, : lengths[0]], streamed, atol=1e-5)
