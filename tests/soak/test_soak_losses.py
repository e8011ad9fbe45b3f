"""Thousands of draws through both losses: odd lengths, odd labels, logits of any size, no NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.train.losses import pruned_transducer_loss, rnnt_loss, transducer_loss

pytestmark = pytest.mark.soak

DRAWS = 500
SHAPES = [(1, 1, 0, 2), (2, 1, 6, 3), (4, 9, 0, 5), (4, 9, 5, 4), (3, 5, 11, 7)]  # B, T, U, V


def draw(rng: np.random.Generator, shape: tuple[int, int, int, int]):
    """Inputs of the joint f + g, with NaN wherever a row's lengths say that nothing lies."""
    n_batch, n_frames, n_labels, n_classes = shape
    size = rng.choice([1e-3, 1.0, 30.0, 1e4])
    f = size * rng.standard_normal((n_batch, n_frames, n_classes))
    g = size * rng.standard_normal((n_batch, n_labels + 1, n_classes))
    if rng.random() < 0.2:
        f[..., rng.integers(n_classes)] = -np.inf  # a class that is ruled out
    frames = rng.integers(0, n_frames + 1, n_batch)
    lengths = rng.integers(0, n_labels + 1, n_batch)
    labels = rng.integers(0, n_classes, (n_batch, n_labels))  # blank among them
    f[np.arange(n_frames) >= frames[:, None]] = np.nan
    g[np.arange(n_labels + 1) > lengths[:, None]] = np.nan
    labels[np.arange(n_labels) >= lengths[:, None]] = rng.integers(-9, 9)
    arrays = f.astype(np.float32), g.astype(np.float32)
    return *arrays, labels.astype(np.int32), frames.astype(np.int32), lengths.astype(np.int32)


@pytest.mark.parametrize("hat", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_levels_agree_and_nothing_is_nan(shape: tuple[int, int, int, int], hat: bool):
    rng = np.random.default_rng(0)

    def finite(loss):
        return jnp.where(jnp.isinf(loss), 0.0, loss).sum(), loss

    @jax.jit
    def joint_level(f, g, *targets):
        def total(f, g):
            return finite(transducer_loss(f, g, lambda a, b: a + b, *targets, hat=hat))

        return jax.value_and_grad(total, (0, 1), has_aux=True)(f, g)

    @jax.jit
    def logits_level(f, g, *targets):
        def total(f, g):
            return finite(rnnt_loss(f[:, :, None] + g[:, None], *targets, hat=hat))

        return jax.value_and_grad(total, (0, 1), has_aux=True)(f, g)

    for _ in range(DRAWS):
        inputs = draw(rng, shape)
        (_, loss), gradient = joint_level(*inputs)
        (_, expected), _ = logits_level(*inputs)
        assert not np.isnan(loss).any(), inputs
        assert all(np.isfinite(d).all() for d in gradient), inputs
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-4)
        assert (np.asarray(loss)[inputs[3] == 0] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pruned_loss_is_never_nan_and_never_below_the_exact_one(shape):
    rng = np.random.default_rng(1)

    @jax.jit
    def run(f, g, *targets):
        def total(f, g):
            out = pruned_transducer_loss(
                f, g, lambda a, b: a + b, f, g, *targets, s_range=3, lm_scale=0.0
            )
            return jnp.where(jnp.isinf(out.loss), 0.0, out.loss).sum(), out

        exact = transducer_loss(f, g, lambda a, b: a + b, *targets)
        return jax.value_and_grad(total, (0, 1), has_aux=True)(f, g), exact

    for _ in range(DRAWS):
        inputs = draw(rng, shape)
        ((_, out), gradient), exact = run(*inputs)
        assert not np.isnan(out.loss).any(), inputs
        assert all(np.isfinite(d).all() for d in gradient), inputs
        covered = (inputs[4] < 3) | (inputs[4] <= 2 * inputs[3])
        pruned, exact = np.asarray(out.pruned), np.asarray(exact)
        possible = np.isfinite(exact)
        assert np.isinf(pruned)[covered & ~possible].all(), inputs
        slack = 1e-4 * (1 + np.abs(exact[possible]))
        above = pruned[possible] >= exact[possible] - slack
        assert above[covered[possible]].all(), inputs
