"""The loss of tokens and durations: all alignments, finite differences, the joint in parts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.train.losses import tdt_loss, tdt_transducer_loss

DURATIONS = (0, 1, 2, 4)
B, T, U, V = 3, 6, 3, 5
LABELS = np.array([[1, 4, 2], [3, 3, 0], [0, 0, 0]])
FRAMES, LENGTHS = np.array([6, 4, 3]), np.array([3, 2, 0])


def logits_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(B, T, U + 1, V + len(DURATIONS))) * 2.0


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def by_alignments(logits, labels, frames: int, durations, sigma: float = 0.0) -> float:
    """-log of the sum over all ways from (0, 0) to the end, by going every one of them."""
    tokens, steps = log_softmax(logits[..., :V]) - sigma, log_softmax(logits[..., V:])

    def onwards(t: int, u: int) -> float:
        if t == frames:
            return 0.0 if u == len(labels) else -np.inf
        total = -np.inf
        for i, d in enumerate(durations):
            if t + d > frames:
                continue
            q = steps[t, u, i]
            if d:
                total = np.logaddexp(total, tokens[t, u, 0] + q + onwards(t + d, u))
            # The last arc is a blank: a label does not lead to the end.
            if u < len(labels) and t + d < frames:
                total = np.logaddexp(total, tokens[t, u, labels[u]] + q + onwards(t + d, u + 1))
        return total

    return -onwards(0, 0)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_the_sum_over_all_alignments(sigma: float):
    logits = logits_of()
    options = {"durations": DURATIONS, "sigma": sigma}
    found = jax.jit(lambda x: tdt_loss(x, LABELS, FRAMES, LENGTHS, **options))
    wanted = [
        by_alignments(logits[b], LABELS[b, : LENGTHS[b]], FRAMES[b], DURATIONS, sigma)
        for b in range(B)
    ]
    np.testing.assert_allclose(found(logits), wanted, rtol=1e-12)


def test_gradient_by_finite_differences():
    logits = logits_of(1)

    @jax.jit
    def total(x):
        return tdt_loss(x, LABELS, FRAMES, LENGTHS, durations=DURATIONS).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(logits))
    random = np.random.default_rng(2)
    for _ in range(12):
        way = random.normal(size=logits.shape)
        step = 1e-6
        slope = (total(logits + step * way) - total(logits - step * way)) / (2 * step)
        np.testing.assert_allclose((gradient * way).sum(), slope, rtol=1e-6)
    for b, t, u in itertools.product(range(B), range(T), range(U + 1)):
        if t >= FRAMES[b] or u > LENGTHS[b]:
            assert not gradient[b, t, u].any()


def test_padding_may_hold_anything():
    logits = logits_of()
    within = (np.arange(T)[None] < FRAMES[:, None])[:, :, None] & (
        np.arange(U + 1)[None] <= LENGTHS[:, None]
    )[:, None]
    filled = np.where(within[..., None], logits, np.nan)

    @jax.jit
    def both(x):
        def total(x):
            loss = tdt_loss(x, LABELS, FRAMES, LENGTHS, durations=DURATIONS)
            return loss.sum(), loss

        return jax.grad(total, has_aux=True)(x)

    (g, a), (h, b) = both(logits), both(filled)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(g, h)


def test_rows_without_frames_and_targets_out_of_reach():
    logits = logits_of()[:2]

    @jax.jit
    def both(x):
        def total(x):
            # Steps of two frames at least: three labels do not fit into four frames.
            loss = tdt_loss(
                x[..., : V + 1],
                LABELS[:1].repeat(2, 0),
                np.array([0, 4]),
                np.array([3, 3]),
                durations=(2,),
            )
            return jnp.where(jnp.isfinite(loss), loss, 0.0).sum(), loss

        return jax.grad(total, has_aux=True)(x)

    gradient, loss = both(logits)
    assert loss.tolist() == [0.0, np.inf]
    assert not np.asarray(gradient).any()


def test_joint_in_parts_is_the_joint_whole():
    random = np.random.default_rng(3)
    encoded, predicted = random.normal(size=(B, T, 4)), random.normal(size=(B, U + 1, 4))
    kernel = random.normal(size=(4, V + len(DURATIONS)))

    def joint(f, g, kernel):
        return jnp.tanh(f + g) @ kernel

    def whole(f, g, kernel):
        logits = joint(f[:, :, None], g[:, None], kernel)
        return tdt_loss(logits, LABELS, FRAMES, LENGTHS, durations=DURATIONS).sum()

    def parts(f, g, kernel):
        return tdt_transducer_loss(
            f,
            g,
            lambda f, g: joint(f, g, kernel),
            LABELS,
            FRAMES,
            LENGTHS,
            durations=DURATIONS,
            chunk=4,
        ).sum()

    wanted, found = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(encoded, predicted, kernel)
        for f in (whole, parts)
    )
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_durations_of_nothing_are_refused():
    with pytest.raises(ValueError, match="one of them above 0"):
        tdt_loss(jnp.asarray(logits_of()[..., : V + 1]), LABELS, FRAMES, LENGTHS, durations=(0,))
