"""Options of the transducer losses, each against a sum over all alignments written out in float64.

Both levels are held to it: `rnnt_loss` from logits, `transducer_loss` from a joint that only picks
the logits, so that its gradient is comparable too.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.models.transducer import hat_log_probs
from parley.train.losses import alignment_window, rnnt_loss, transducer_loss

B, T, U, V, BLANK = 4, 5, 3, 4, 1
FRAMES, LENGTHS = np.array([5, 3, 1, 4]), np.array([3, 2, 2, 0])
WEIGHT = np.array([1.0, -2.0, 0.5, 1.5])  # rows keep their own cotangent

Arcs = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def draw() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((B, T, U + 1, V))
    labels = rng.choice([c for c in range(V) if c != BLANK], (B, U)).astype(np.int32)
    return logits, labels, rng


LOGITS, LABELS, _RNG = draw()
PENALTIES = _RNG.exponential(1.0, (B, T, U))
ALIGNMENT = np.sort(_RNG.integers(0, T, (B, U)), axis=1)


def softmax_arcs(logits: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    """log P [T, U+1] of blank and [T, U] of the labels."""
    log_p = logits[row] - np.logaddexp.reduce(logits[row], axis=-1, keepdims=True)
    return log_p[..., BLANK], np.stack([log_p[:, u, LABELS[row, u]] for u in range(U)], axis=1)


def hat_arcs(logits: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Blank by a sigmoid; labels share what is left by a softmax among themselves."""
    x = logits[row]
    p_blank = 1 / (1 + np.exp(-x[..., BLANK]))
    others = np.delete(np.exp(x), BLANK, axis=-1).sum(axis=-1)
    p_label = np.stack([np.exp(x[:, u, LABELS[row, u]]) / others[:, u] for u in range(U)], axis=1)
    return np.log(p_blank), np.log((1 - p_blank[:, :U]) * p_label)


def delayed(logits: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    blank, label = softmax_arcs(logits, row)
    return blank, label + 0.3 * ((FRAMES[row] - 1) / 2 - np.arange(T))[:, None]


def penalised(logits: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    blank, label = softmax_arcs(logits, row)
    return blank, label - PENALTIES[row]


def restricted(logits: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
    blank, label = softmax_arcs(logits, row)
    for t, u in np.ndindex(T, U):
        first, last = (np.clip(ALIGNMENT[row, u] + d, 0, FRAMES[row] - 1) for d in (-1, 1))
        if not first <= t <= last:
            label[t, u] = -np.inf
    return blank, label


def alignments(logits: np.ndarray, arcs: Arcs) -> np.ndarray:
    """-log of the summed probability of all alignments of each row."""
    losses = []
    for row in range(B):
        blank, label = arcs(logits, row)
        frames, length = FRAMES[row], LENGTHS[row]
        paths = []
        for where in itertools.combinations(range(frames - 1 + length), length):
            t = u = 0
            path = 0.0
            for step in range(frames - 1 + length):
                if step in where:
                    path += label[t, u]
                    u += 1
                else:
                    path += blank[t, u]
                    t += 1
            paths.append(path + blank[t, u])
        losses.append(-np.logaddexp.reduce(paths))
    return np.array(losses)


OPTIONS: dict[str, tuple[dict[str, Any], Arcs]] = {
    "hat": ({"hat": True}, hat_arcs),
    "delay penalty": ({"delay_penalty": 0.3}, delayed),
    "label penalties": ({"label_penalties": PENALTIES}, penalised),
    "alignment restriction": ({"window": alignment_window(ALIGNMENT, 1, 1)}, restricted),
}


def from_joint(logits: jax.Array, **options: Any) -> jax.Array:
    """The same loss through a joint: cell (b, t, u) finds its logits by its own number."""
    cells = jnp.arange(B * T * (U + 1), dtype=logits.dtype).reshape(B, T, U + 1)
    encoded, predicted = cells[:, :, :1], jnp.zeros((B, 1, 1)) + cells[:1, :1, :, None][:, 0]
    table = logits.reshape(-1, V)

    def joint(f: jax.Array, g: jax.Array) -> jax.Array:
        at = jax.lax.stop_gradient(f + g)[..., 0].astype(jnp.int32)
        return table[at] + 0 * (f + g)

    return transducer_loss(
        encoded, predicted, joint, LABELS, FRAMES, LENGTHS, blank=BLANK, **options
    )


def from_logits(logits: jax.Array, **options: Any) -> jax.Array:
    return rnnt_loss(logits, LABELS, FRAMES, LENGTHS, blank=BLANK, **options)


@pytest.mark.parametrize("level", [from_logits, from_joint])
@pytest.mark.parametrize("name", OPTIONS)
def test_value_and_gradient_are_those_of_all_alignments(name: str, level: Callable[..., Any]):
    options, arcs = OPTIONS[name]
    with jax.enable_x64(True):

        def total(x):
            loss = level(x, **options)
            return loss @ WEIGHT, loss

        (_, loss), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(LOGITS))
    loss = np.asarray(loss)
    np.testing.assert_allclose(loss, alignments(LOGITS, arcs), rtol=1e-12)
    plain = alignments(LOGITS, softmax_arcs)
    assert (np.abs(plain - loss)[:2] > 1e-3).all(), "the option does something"
    step = 1e-6 * np.random.default_rng(1).standard_normal(LOGITS.shape)
    rise = (alignments(LOGITS + step, arcs) - alignments(LOGITS - step, arcs)) @ WEIGHT / 2
    np.testing.assert_allclose((np.asarray(gradient) * step).sum(), rise, rtol=1e-7)


@pytest.mark.parametrize("level", [from_logits, from_joint])
def test_options_together(level: Callable[..., Any]):
    """FastEmit on top of everything: label arcs weigh 1.2 times as much in the gradient."""
    options: dict[str, Any] = {
        "delay_penalty": 0.3,
        "label_penalties": PENALTIES,
        "window": alignment_window(ALIGNMENT, 1, 1),
        "hat": True,
    }
    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS)
        plain, fast = (
            jax.jit(jax.value_and_grad(lambda x, e=e: level(x, fastemit=e, **options).sum()))(
                logits
            )
            for e in (0.0, 0.2)
        )
        # Labels' logits see label arcs only.
        others = np.delete(np.arange(V), BLANK)
        np.testing.assert_allclose(
            fast[1][..., others], 1.2 * plain[1][..., others], rtol=1e-9, atol=1e-15
        )
    assert fast[0] == plain[0]
    assert np.isfinite(plain[0])


def test_a_window_that_no_alignment_fits_is_an_impossible_target():
    first = np.array([[3, 0, 0]] * B)  # the second label must come before the first
    last = np.array([[4, 1, 4]] * B)

    @jax.jit
    @jax.value_and_grad
    def total(x):
        loss = from_logits(x, window=(first, last))
        return jnp.where(jnp.isinf(loss), 0.0, loss).sum()

    loss = from_logits(jnp.asarray(LOGITS), window=(first, last))
    # Frames are brought into the row: of one frame, anything fits; of no labels, too.
    np.testing.assert_array_equal(np.isinf(loss), [True, True, False, False])
    gradient = total(jnp.asarray(LOGITS))[1]
    assert np.isfinite(gradient).all()
    assert (gradient[:2] == 0).all()


def test_hat_log_probs_are_the_distribution_of_the_loss():
    with jax.enable_x64(True):
        log_p = np.asarray(hat_log_probs(jnp.asarray(LOGITS), BLANK))
        loss = from_logits(jnp.asarray(log_p))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(loss, alignments(LOGITS, hat_arcs), rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_penalties": np.zeros((B, T, U + 1))}, "label_penalties must be"),
        ({"window": (np.zeros((B, U)), np.zeros((B, U + 1)))}, "window must be"),
    ],
)
@pytest.mark.parametrize("level", [from_logits, from_joint])
def test_shapes_that_do_not_fit_are_refused(level, options, message):
    with pytest.raises(ValueError, match=message):
        level(jnp.asarray(LOGITS), **options)
