"""RNN-T loss from logits: reference values, all alignments, finite differences, padding."""

import itertools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.train.losses import lattice_loss, rnnt_loss

_ROOT = Path(__file__).resolve().parents[2]
_GOLDEN = Path(os.environ.get("PARLEY_GOLDEN", _ROOT.parent / "shared" / "golden")) / "rnnt.npz"
_CASES = [
    "tiny_b0", "tiny_full_b0", "tiny_full_blast", "tiny_fastemit_b0", "u0_only", "t1", "v2",
    "u_gt_t", "pad_garbage", "mid_b0", "mid_fastemit", "big", "neginf_class", "long",
]  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """Reference values: a float64 dynamic programme, checked against five public toolkits."""
    if not _GOLDEN.exists():
        pytest.skip(f"no reference values at {_GOLDEN}; set PARLEY_GOLDEN to their folder")
    with np.load(_GOLDEN) as file:
        return dict(file)


def _loss_and_gradient(logits, labels, frames, lengths, **options):
    def total(x):
        loss = rnnt_loss(
            x, jnp.asarray(labels), jnp.asarray(frames), jnp.asarray(lengths), **options
        )
        return loss.sum(), loss

    (_, loss), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(logits))
    return np.asarray(loss), np.asarray(gradient)


def _draw(
    seed: int, n_batch: int, n_frames: int, n_labels: int, n_classes: int, dtype: Any = np.float32
):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n_batch, n_frames, n_labels + 1, n_classes))
    labels = rng.integers(1, n_classes, (n_batch, n_labels)).astype(np.int32)
    return logits.astype(dtype), labels


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def _all_alignments(logits: np.ndarray, labels: np.ndarray, blank: int) -> float:
    """-log P of one row [T, U+1, V], summed over every order of its blanks and labels."""
    n_frames, width, _ = logits.shape
    log_p, paths = _log_softmax(logits), []
    for where in itertools.combinations(range(n_frames - 1 + width - 1), width - 1):
        t = u = 0
        path = 0.0
        for step in range(n_frames - 1 + width - 1):
            if step in where:
                path += log_p[t, u, labels[u]]
                u += 1
            else:
                path += log_p[t, u, blank]
                t += 1
        paths.append(path + log_p[t, u, blank])
    return -np.logaddexp.reduce(paths)


def _recursion(logits: np.ndarray, labels: np.ndarray, frames: int, length: int) -> float:
    """-log P of one row by the textbook recursion, blank = 0, in float64."""
    if frames == 0:
        return 0.0
    log_p = _log_softmax(logits[:frames, : length + 1])
    alpha = np.full((frames, length + 1), -np.inf)
    for t in range(frames):
        for u in range(length + 1):
            came = [0.0] if t == u == 0 else []
            if t:
                came.append(alpha[t - 1, u] + log_p[t - 1, u, 0])
            if u:
                came.append(alpha[t, u - 1] + log_p[t, u - 1, labels[u - 1]])
            alpha[t, u] = np.logaddexp.reduce(came)
    return -(alpha[-1, -1] + log_p[-1, -1, 0])


def test_reference_cases_are_all_here(golden):
    assert sorted(golden["names"].tolist()) == sorted(_CASES)


@pytest.mark.parametrize("name", _CASES)
def test_reference_values(golden, name):
    case = {k.split("/")[1]: v for k, v in golden.items() if k.startswith(name + "/")}
    arguments = case["labels"], case["logit_lengths"], case["label_lengths"]
    options = {"blank": int(case["blank"]), "fastemit": float(case["fastemit_lambda"])}

    loss, gradient = _loss_and_gradient(case["logits"].astype(np.float32), *arguments, **options)
    assert loss.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-6)
    # Toolkits that form exp(alpha + beta - log P) in float32 are off by up to 2e-4 here.
    np.testing.assert_allclose(gradient, case["grad"], rtol=0, atol=5e-6)
    assert (gradient[case["grad"] == 0] == 0).all()

    with jax.enable_x64(True):
        loss, gradient = _loss_and_gradient(
            case["logits"].astype(np.float64), *arguments, **options
        )
    assert loss.dtype == gradient.dtype == np.float64
    np.testing.assert_allclose(loss, case["loss"], rtol=0, atol=1e-9)
    stored_in_float32 = (case["grad"] == case["grad"].astype(np.float32)).all()
    tolerance = 1e-6 if stored_in_float32 else 1e-9
    np.testing.assert_allclose(gradient, case["grad"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(("frames", "n_labels", "blank"), [(4, 3, 0), (1, 4, 2), (5, 0, 0)])
def test_equals_the_sum_over_all_alignments(frames, n_labels, blank):
    logits, _ = _draw(1, 2, frames, n_labels, 5, np.float64)
    labels = np.array([[1, 3, 3, 4], [4, 4, 4, 1]], np.int32)[:, :n_labels]
    with jax.enable_x64(True):
        loss, _ = _loss_and_gradient(
            logits, labels, np.full(2, frames), np.full(2, n_labels), blank=blank
        )
    expected = [_all_alignments(x, y, blank) for x, y in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_gradient_equals_finite_differences():
    logits, labels = _draw(2, 3, 4, 3, 4, np.float64)
    frames, lengths = np.array([4, 3, 2]), np.array([3, 1, 3])
    weight = np.array([1.0, -2.0, 0.5])  # rows must keep their own cotangent
    with jax.enable_x64(True):
        total = jax.jit(lambda x: rnnt_loss(x, labels, frames, lengths) @ weight)
        gradient = np.asarray(jax.grad(total)(jnp.asarray(logits)))
        numeric = np.zeros_like(logits)
        for at in np.ndindex(*logits.shape):
            step = np.zeros_like(logits)
            step[at] = 1e-5
            numeric[at] = (total(logits + step) - total(logits - step)) / 2e-5
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-9)


def test_fastemit_scales_label_arcs_and_nothing_else():
    rng = np.random.default_rng(3)
    arcs = -rng.exponential(2.0, (2, 2, 6, 4)).astype(np.float32)
    frames, lengths = np.array([6, 4]), np.array([3, 2])

    @jax.jit
    def run(arcs, strength):  # the strength may change from step to step
        def total(blank, label):
            return lattice_loss(blank, label, frames, lengths, fastemit=strength).sum()

        return jax.value_and_grad(total, argnums=(0, 1))(*arcs)

    plain, (plain_blank, plain_label) = run(arcs, 0.0)
    value, (blank, label) = run(arcs, 0.25)
    assert value == plain
    np.testing.assert_array_equal(blank, plain_blank)
    np.testing.assert_allclose(label, 1.25 * plain_label, rtol=1e-6)
    # Each label is emitted once, each frame left once.
    np.testing.assert_allclose(plain_label.sum(axis=(1, 2)), -lengths, rtol=1e-5)
    np.testing.assert_allclose(plain_blank.sum(axis=(1, 2)), -frames, rtol=1e-5)


# Few shapes, compiled once each; lengths vary freely within them.
_SHAPES = [(1, 1, 0, 2), (3, 1, 4, 3), (2, 7, 1, 2), (4, 3, 5, 4)]
_COMPILED = jax.jit(
    jax.value_and_grad(
        lambda x, *rest: (lambda loss: (loss.sum(), loss))(rnnt_loss(x, *rest)), has_aux=True
    )
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_any_lengths_and_nan_padding(data):
    n_batch, n_frames, n_labels, n_classes = data.draw(st.sampled_from(_SHAPES))
    logits, labels = _draw(data.draw(st.integers(0, 99)), n_batch, n_frames, n_labels, n_classes)
    logits *= data.draw(st.sampled_from([0.1, 1.0, 40.0]))  # up to very sharp
    rows = st.lists(st.integers(0, 99), min_size=n_batch, max_size=n_batch)
    frames = np.array(data.draw(rows), np.int32) % (n_frames + 1)
    lengths = np.array(data.draw(rows), np.int32) % (n_labels + 1)
    t, u = np.arange(n_frames)[:, None], np.arange(n_labels + 1)
    padding = (t >= frames[:, None, None]) | (u > lengths[:, None, None])
    logits[padding] = np.nan
    labels[np.arange(n_labels) >= lengths[:, None]] = -7

    (_, loss), gradient = _COMPILED(logits, labels, frames, lengths)
    expected = [_recursion(*row) for row in zip(logits, labels, frames, lengths, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[padding] == 0).all()
    # Softmax does not see a constant, so the gradient of a cell sums to zero.
    np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-5)


def test_empty_row_and_impossible_target_give_no_gradient():
    logits, labels = _draw(4, 3, 5, 2, 4)
    logits[2, :, :, labels[2, 0]] = -np.inf
    loss, gradient = _loss_and_gradient(logits, labels, np.array([0, 5, 5]), np.array([2, 2, 2]))
    assert loss[0] == 0
    assert np.isfinite(loss[1])
    assert loss[2] == np.inf
    assert (gradient[[0, 2]] == 0).all()
    assert np.abs(gradient[1]).max() > 0.1
    assert not np.isnan(gradient).any()


def test_lengths_and_labels_out_of_range_are_not_numbers():
    logits, labels = _draw(5, 6, 5, 2, 4)
    labels[3, 1], labels[4, 0] = 4, -1
    frames, lengths = np.array([6, -1, 5, 5, 5, 5]), np.array([2, 2, 3, 2, 2, 2])
    loss = rnnt_loss(jnp.asarray(logits), labels, frames, lengths)
    np.testing.assert_array_equal(np.isnan(loss), [True, True, True, True, True, False])


def test_no_frames_at_all_gives_zeros():
    loss, gradient = _loss_and_gradient(
        np.zeros((2, 0, 3, 4), np.float32), np.ones((2, 2), np.int32), np.zeros(2), np.zeros(2)
    )
    np.testing.assert_array_equal(loss, [0, 0])
    assert gradient.shape == (2, 0, 3, 4)


def test_bfloat16_logits_are_summed_in_float32():
    logits, labels = _draw(6, 2, 40, 10, 6)
    logits = jnp.asarray(logits, jnp.bfloat16)
    arguments = labels, np.array([40, 33]), np.array([10, 7])
    loss, gradient = _loss_and_gradient(logits, *arguments)
    wide_loss, wide_gradient = _loss_and_gradient(logits.astype(jnp.float32), *arguments)
    assert loss.dtype == np.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, wide_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient.astype(np.float32), wide_gradient, rtol=0, atol=4e-3)


def test_memory_beside_the_logits_is_small():
    shapes = [(2, 60, 21, 256), (2, 20), (2,), (2,)]
    specs = [
        jax.ShapeDtypeStruct(s, d)
        for s, d in zip(shapes, ["float32", "int32", "int32", "int32"], strict=True)
    ]
    run = jax.jit(jax.value_and_grad(lambda *a: rnnt_loss(*a).sum()), donate_argnums=0)
    memory = run.lower(*specs).compile().memory_analysis()
    assert memory is not None
    logits_bytes = 4 * int(np.prod(shapes[0]))
    assert memory.temp_size_in_bytes < 0.1 * logits_bytes
    assert memory.alias_size_in_bytes >= logits_bytes  # the gradient lies where the logits lay


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.zeros((2, 3, 4))}, "logits must be"),
        ({"labels": np.zeros((2, 3), int)}, "labels must be"),
        ({"logit_lengths": np.zeros(3, int)}, "frame lengths must be"),
        ({"label_lengths": np.zeros((2, 1), int)}, "label lengths must be"),
        ({"blank": 4}, "blank must be"),
        ({"blank": -1}, "blank must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    fitting = {
        "logits": np.zeros((2, 3, 3, 4)),
        "labels": np.zeros((2, 2), int),
        "logit_lengths": np.full(2, 3),
        "label_lengths": np.full(2, 2),
    }
    with pytest.raises(ValueError, match=message):
        rnnt_loss(**(fitting | change))
