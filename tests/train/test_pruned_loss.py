"""Pruned RNN-T loss: both passes against dense forms, the windows' properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.models.transducer import Joint, JointConfig
from parley.train.losses import (
    lattice_loss,
    pruned_loss,
    pruned_transducer_loss,
    pruning_window,
    rnnt_loss,
    simple_loss,
    transducer_loss,
)

B, T, U, D, V = 8, 7, 6, 6, 5
FRAMES = np.array([7, 5, 4, 0, 3, 7, 3, 6], np.int32)
LENGTHS = np.array([6, 2, 5, 1, 6, 0, 1, 4], np.int32)  # an empty row, T < U, no labels
WEIGHTS = np.linspace(0.5, 2, B)  # rows must keep their own cotangent
LATE = np.arange(T) >= FRAMES[:, None]
BEYOND = np.arange(U + 1) > LENGTHS[:, None]


def make_joint(dtype=jnp.float32):
    return Joint(JointConfig(), D, V, rngs=nnx.Rngs(0), dtype=dtype)


PARAMETERS = nnx.state(make_joint())


@pytest.fixture(scope="module")
def batch() -> dict[str, jax.Array]:
    """Random encoder and prediction outputs, both sides of a simple joiner, labels."""
    keys = jax.random.split(jax.random.key(0), 5)
    return {
        "encoded": jax.random.normal(keys[0], (B, T, D)),
        "predicted": jax.random.normal(keys[1], (B, U + 1, D)),
        "am": 2 * jax.random.normal(keys[2], (B, T, V)),
        "lm": 2 * jax.random.normal(keys[3], (B, U + 1, V)),
        "labels": jax.random.randint(keys[4], (B, U), 1, V),
    }


def joint_of(parameters):
    """The joint with these parameters, working in their type."""
    dtype = jax.tree.leaves(parameters)[0].dtype
    return nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: make_joint(dtype))), parameters)


def log_zero_outside(arcs, start, s_range):
    """[B, T, U+1] of which only the windows are left."""
    offset = jnp.arange(U + 1)[None, None, :] - start[:, :, None]
    return jnp.where((offset >= 0) & (offset < s_range), arcs, -jnp.inf)


def dense_arcs(log_probs, labels):
    """Blank and label arcs [B, T, U+1] of log-probabilities [B, T, U+1, V]."""
    classes = jnp.pad(labels, ((0, 0), (0, 1)))[:, None, :, None]
    classes = jnp.broadcast_to(classes, (*log_probs.shape[:3], 1))
    return log_probs[..., 0], jnp.take_along_axis(log_probs, classes, axis=-1)[..., 0]


def float64(batch):
    return {
        k: jnp.asarray(v, jnp.float64) if v.dtype == jnp.float32 else v for k, v in batch.items()
    }


def assert_close(actual, expected, **tolerance):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, **tolerance)


# --- The simple joiner ----------------------------------------------------------------------------


def dense_simple(am, lm, labels, lm_scale, am_scale):
    """The scores of both arcs from all logits."""
    joined = jax.nn.log_softmax(am[:, :, None] + lm[:, None], axis=-1)
    language = jax.nn.log_softmax(lm, axis=-1)
    real = jnp.asarray(~BEYOND & (FRAMES > 0)[:, None])
    unigram = jnp.where(real[..., None], jnp.exp(language), 0).sum((0, 1)) / real.sum()
    acoustic = jax.nn.log_softmax(am + jnp.log(unigram)[None, None], axis=-1)
    scores = (1 - lm_scale - am_scale) * joined
    scores += lm_scale * language[:, None] + am_scale * acoustic[:, :, None]
    return dense_arcs(scores, labels)


@pytest.mark.parametrize(("lm_scale", "am_scale"), [(0.0, 0.0), (0.25, 0.0), (0.2, 0.3)])
def test_simple_loss_equals_the_dense_one(batch, lm_scale, am_scale):
    scales = {"lm_scale": lm_scale, "am_scale": am_scale}

    def total(am, lm, labels):
        loss, taken = simple_loss(am, lm, labels, FRAMES, LENGTHS, fastemit=0.1, **scales)
        return loss @ jnp.asarray(WEIGHTS, loss.dtype), (loss, taken)

    def dense(am, lm, labels):
        blank, label = dense_simple(am, lm, labels, **scales)
        loss = lattice_loss(blank, label, FRAMES, LENGTHS, fastemit=0.1)

        def log_p(blank, label):
            return -lattice_loss(blank, label, FRAMES, LENGTHS).sum()

        return loss @ WEIGHTS, (loss, jax.grad(log_p, (0, 1))(blank, label))

    inputs = batch["am"], batch["lm"], batch["labels"]
    actual = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(*inputs)
    with jax.enable_x64(True):
        wide = float64(batch)
        inputs = wide["am"], wide["lm"], wide["labels"]
        expected = jax.jit(jax.value_and_grad(dense, (0, 1), has_aux=True))(*inputs)
        exact = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(*inputs)
        if lm_scale == am_scale == 0:
            logits = wide["am"][:, :, None] + wide["lm"][:, None]
            assert_close(expected[0][1][0], rnnt_loss(logits, wide["labels"], FRAMES, LENGTHS))
    assert_close(exact, expected, rtol=1e-10, atol=1e-12)
    assert_close(actual, expected, rtol=5e-6, atol=5e-6)
    blank, label = actual[0][1][1]
    # Each frame is left once, each label emitted once.
    np.testing.assert_allclose(blank.sum((1, 2)), FRAMES, rtol=1e-5)
    np.testing.assert_allclose(label.sum((1, 2)), np.where(FRAMES > 0, LENGTHS, 0), rtol=1e-5)


def test_peaks_that_float32_loses_give_finite_numbers():
    """exp(am) @ exp(lm) is 0 here: the classes that one side knows, the other rules out."""
    am = jnp.zeros((1, 3, 3)).at[:, :, 0].set(300.0)
    lm = jnp.zeros((1, 2, 3)).at[:, :, 2].set(300.0)

    def total(am, lm):
        return simple_loss(am, lm, np.ones((1, 1), int), np.full(1, 3), np.full(1, 1))[0].sum()

    loss, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(am, lm)
    assert np.isfinite(loss)
    assert loss > 100
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0.1 for g in gradients)


# --- The windows ----------------------------------------------------------------------------------


@jax.jit
def windows_of_two(blank_taken, label_taken, frames, units):
    return pruning_window(blank_taken, label_taken, frames, units, s_range=2)


@jax.jit
def windows_of_four(blank_taken, label_taken, frames, units):
    return pruning_window(blank_taken, label_taken, frames, units, s_range=4)


@jax.jit
def forbidden(log_blank, log_label, frames, units, start, s_range):
    """Loss of the arcs inside the windows, and of all arcs."""
    inside = [log_zero_outside(x, start, s_range) for x in (log_blank, log_label)]
    return (
        lattice_loss(inside[0], inside[1], frames, units),
        lattice_loss(log_blank, log_label, frames, units),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_windows_rise_from_the_first_to_the_last_label(data):
    rows = st.lists(st.integers(0, 99), min_size=B, max_size=B)
    frames = np.array(data.draw(rows), np.int32) % (T + 1)
    units = np.array(data.draw(rows), np.int32) % (U + 1)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    arcs = -rng.exponential(data.draw(st.sampled_from([0.1, 1.0, 20.0])), (2, B, T, U + 1))
    arcs = arcs.astype(np.float32)
    s_range = data.draw(st.sampled_from([2, 4]))
    windows = windows_of_two if s_range == 2 else windows_of_four
    # Occupancies that know nothing of the lattice are the hardest case.
    start = np.asarray(windows(*np.exp(arcs), frames, units))

    assert start.min() >= 0
    assert start.max() <= U + 1 - s_range
    rise = np.diff(start, axis=1)
    assert (rise >= 0).all()
    assert (rise < s_range).all()
    assert (start[:, 0] == 0).all()
    assert (start <= np.maximum(units - s_range + 1, 0)[:, None]).all()
    coverable = (units < s_range) | (units <= frames * (s_range - 1))
    last = start[np.arange(B), np.maximum(frames - 1, 0)]
    np.testing.assert_array_equal((last + s_range > units)[frames > 0], coverable[frames > 0])

    loss, exact = forbidden(*arcs, frames, units, start, s_range)
    np.testing.assert_array_equal(np.isfinite(loss), coverable | (frames == 0))
    assert (loss >= exact - 1e-5 * np.abs(exact)).all()


def test_windows_lie_where_the_alignments_do():
    """Labels at planted frames, in bursts; the joint is the simple joiner itself."""
    n_frames, planted = 40, np.array([3, 4, 4, 5, 6, 7, 7, 30, 31, 31, 36, 39])
    n_labels, n_classes = len(planted), len(planted) + 1
    labels = np.arange(1, n_classes)[None]
    am = np.zeros((1, n_frames, n_classes), np.float32)
    am[..., 0] = 6.0
    am[0, planted, labels[0]] = 12.0
    lm = np.full((1, n_labels + 1, n_classes), -12.0, np.float32)
    lm[..., 0] = 0.0
    lm[0, np.arange(n_labels), labels[0]] = 0.0
    lengths = np.array([n_frames]), np.array([n_labels])
    exact, taken = jax.jit(simple_loss)(am, lm, labels, *lengths)

    @jax.jit
    def lost(start):
        def joint(f, g):
            return f + g

        frames, units = lengths
        f, g = jnp.asarray(am), jnp.asarray(lm)
        return pruned_loss(f, g, joint, start, labels, frames, units, s_range=4)[0] - exact[0]

    start = pruning_window(taken[0], taken[1], *lengths, s_range=4)
    at = np.asarray(start)[0, planted]
    assert ((at <= np.arange(n_labels)) & (np.arange(n_labels) < at + 4)).all()
    assert -1e-4 < lost(start) < 0.1
    diagonal = np.linspace(0, n_labels - 3, n_frames).astype(np.int32)[None]
    assert lost(diagonal) > 5


# --- The pruned loss ------------------------------------------------------------------------------


def pruned_total(start, s_range, fastemit=0.1, chunk=3):
    def total(encoded, predicted, parameters, labels):
        loss = pruned_loss(
            encoded,
            predicted,
            joint_of(parameters),
            start,
            labels,
            jnp.asarray(FRAMES),
            jnp.asarray(LENGTHS),
            s_range=s_range,
            fastemit=fastemit,
            chunk=chunk,
        )
        return jnp.where(jnp.isfinite(loss), loss, 0.0) @ jnp.asarray(WEIGHTS, loss.dtype), loss

    return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))


@pytest.mark.parametrize("chunk", [3, None])  # of 7 frames: 3 does not divide them
def test_a_window_of_everything_is_the_exact_loss(batch, chunk):
    inputs = batch["encoded"], batch["predicted"], PARAMETERS, batch["labels"]

    def exact(encoded, predicted, parameters, labels):
        joint = joint_of(parameters)
        rest = labels, jnp.asarray(FRAMES), jnp.asarray(LENGTHS)
        loss = transducer_loss(encoded, predicted, joint, *rest, fastemit=0.1)
        return loss @ jnp.asarray(WEIGHTS, loss.dtype), loss

    start = jnp.zeros((B, T), jnp.int32)
    actual = pruned_total(start, U + 4, chunk=chunk)(*inputs)
    expected = jax.jit(jax.value_and_grad(exact, (0, 1, 2), has_aux=True))(*inputs)
    assert all(np.abs(g).max() > 0.1 for g in jax.tree.leaves(expected[1]))
    assert_close(actual, expected, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("s_range", [2, 3])
def test_equals_the_whole_lattice_with_all_else_forbidden(batch, s_range):
    _, taken = simple_loss(batch["am"], batch["lm"], batch["labels"], FRAMES, LENGTHS)
    start = pruning_window(*taken, FRAMES, LENGTHS, s_range=s_range)
    inputs = batch["encoded"], batch["predicted"], PARAMETERS, batch["labels"]

    def dense(encoded, predicted, parameters, labels):
        logits = joint_of(parameters)(encoded[:, :, None], predicted[:, None])
        arcs = dense_arcs(jax.nn.log_softmax(logits, axis=-1), labels)
        blank, label = (log_zero_outside(x, start, s_range) for x in arcs)
        loss = lattice_loss(blank, label, FRAMES, LENGTHS, fastemit=0.1)
        total = jnp.where(jnp.isfinite(loss), loss, 0.0) @ jnp.asarray(WEIGHTS, loss.dtype)
        return total, loss

    actual = pruned_total(start, s_range)(*inputs)
    expected = jax.jit(jax.value_and_grad(dense, (0, 1, 2), has_aux=True))(*inputs)
    assert_close(actual, expected, rtol=5e-6, atol=5e-6)
    loss = np.asarray(actual[0][1])
    # Of two positions one is left in each frame: rows 2 and 4 have more labels than frames.
    most = FRAMES * (s_range - 1)
    np.testing.assert_array_equal(np.isinf(loss), (FRAMES > 0) & (most < LENGTHS))


# --- Both together --------------------------------------------------------------------------------


def both(s_range=3, **options):
    def total(inputs, parameters, labels):
        out = pruned_transducer_loss(
            inputs["encoded"],
            inputs["predicted"],
            joint_of(parameters),
            inputs["am"],
            inputs["lm"],
            labels,
            jnp.asarray(FRAMES),
            jnp.asarray(LENGTHS),
            s_range=s_range,
            lm_scale=0.2,
            am_scale=0.2,
            chunk=3,
            **options,
        )
        return out.loss @ jnp.asarray(WEIGHTS, out.loss.dtype), out

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))


def test_nan_in_padding_changes_nothing(batch):
    run = both()
    late, beyond = jnp.asarray(LATE)[..., None], jnp.asarray(BEYOND)[..., None]
    clean = {k: v for k, v in batch.items() if k != "labels"}
    dirty = {
        name: jnp.where(late if name in ("encoded", "am") else beyond, jnp.nan, x)
        for name, x in clean.items()
    }
    wild = jnp.where(BEYOND[:, 1:], 1 << 20, batch["labels"])
    (_, out), gradients = run(dirty, PARAMETERS, wild)
    jax.tree.map(
        np.testing.assert_array_equal,
        ((_, out), gradients),
        run(clean, PARAMETERS, batch["labels"]),
    )
    for name, gradient in gradients[0].items():
        padding = LATE if name in ("encoded", "am") else BEYOND
        assert (np.asarray(gradient)[padding] == 0).all()
        assert (np.asarray(gradient)[FRAMES == 0] == 0).all()
    assert out.loss[3] == out.pruned[3] == out.simple[3] == 0


def test_labels_too_many_for_any_window_are_left_to_the_simple_loss(batch):
    clean = {k: v for k, v in batch.items() if k != "labels"}
    (_, out), (gradients, _) = both(s_range=2)(clean, PARAMETERS, batch["labels"])
    crowded = (LENGTHS > FRAMES) & (FRAMES > 0)
    assert crowded.sum() == 2
    assert (np.asarray(out.pruned)[crowded] == 0).all()
    np.testing.assert_allclose(out.loss, 0.5 * out.simple + out.pruned, rtol=1e-6)
    assert (np.asarray(gradients["encoded"])[crowded] == 0).all()
    assert all(np.isfinite(g).all() for g in gradients.values())
    assert (np.abs(gradients["am"]).max((1, 2))[crowded] > 0.1).all()


def test_a_joint_may_close_over_a_random_key(batch):
    rest = batch["labels"], FRAMES, LENGTHS

    @jax.jit
    @jax.value_and_grad
    def total(encoded, key):
        def joint(f, g):
            keep = jax.random.bernoulli(key, 0.5, (1, 1, 1, D))
            return jnp.where(keep, jnp.tanh(f + g), 0)

        start = jnp.zeros((B, T), jnp.int32)
        loss = pruned_loss(encoded, batch["predicted"], joint, start, *rest, s_range=U + 1)
        return loss.sum()

    one, gradient = total(batch["encoded"], jax.random.key(1))
    other, _ = total(batch["encoded"], jax.random.key(2))
    assert np.isfinite(gradient).all()
    assert one != other


@pytest.mark.slow
def test_gradient_equals_finite_differences(batch):
    with jax.enable_x64(True):
        wide = float64(batch)
        labels = wide.pop("labels")
        parameters = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), PARAMETERS)
        run = both(simple_weight=0.7)
        _, gradients = run(wide, parameters, labels)
        keys = iter(jax.random.split(jax.random.key(9), 99))
        step = jax.tree.map(
            lambda x: 1e-6 * jax.random.normal(next(keys), x.shape, x.dtype), (wide, parameters)
        )

        def moved(sign):
            inputs = jax.tree.map(lambda x, s: x + sign * s, (wide, parameters), step)
            return run(*inputs, labels)[0][0]

        expected = (moved(1) - moved(-1)) / 2
        actual = sum(jax.tree.leaves(jax.tree.map(lambda g, s: (g * s).sum(), gradients, step)))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.slow
def test_bfloat16_keeps_lattice_and_sums_in_float32(batch):
    n_frames, rows = 60, 2
    keys = jax.random.split(jax.random.key(3), 3)
    kernel = jax.random.normal(keys[2], (D, V))
    sides = [
        jax.random.normal(keys[0], (rows, n_frames, D), jnp.bfloat16),
        jax.random.normal(keys[1], (rows, U + 1, D), jnp.bfloat16),
        kernel.astype(jnp.bfloat16),
    ]
    rest = batch["labels"][:rows], np.full(rows, n_frames), np.full(rows, U)
    start = jnp.minimum(jnp.arange(n_frames) // 8, U - 2)[None].repeat(rows, 0)

    def run(dtype, chunk):
        def total(f, g, kernel):
            def joint(f, g):
                return jnp.tanh(f + g) @ kernel

            loss = pruned_loss(f, g, joint, start, *rest, s_range=3, chunk=chunk)
            return loss.sum(), loss

        inputs = [x.astype(dtype) for x in sides]
        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*inputs)

    (_, loss), gradients = run(jnp.bfloat16, 1)
    (_, wide_loss), wide_gradients = run(jnp.float32, 50)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, wide_loss, rtol=1e-3)
    for gradient, wide in zip(gradients, wide_gradients, strict=True):
        assert gradient.dtype == jnp.bfloat16
        error = np.linalg.norm(gradient.astype(jnp.float32) - wide) / np.linalg.norm(wide)
        assert error < 0.02


def test_no_frames_and_no_labels_at_all(batch):
    none, zeros = jnp.zeros((B, 0), jnp.int32), np.zeros(B, np.int32)

    @jax.jit
    def run(encoded, predicted, am, lm, frames):
        sides = encoded, predicted, joint_of(PARAMETERS)
        out = pruned_transducer_loss(*sides, am, lm, none, frames, zeros)
        return out, transducer_loss(*sides, none, frames, zeros)

    one = batch["predicted"][:, :1], batch["am"], batch["lm"][:, :1]
    out, exact = run(batch["encoded"], *one, FRAMES)
    np.testing.assert_allclose(out.pruned, exact, rtol=1e-6)
    out, _ = run(batch["encoded"][:, :0], one[0], one[1][:, :0], one[2], zeros)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, np.zeros(B)), out)


@pytest.mark.slow
def test_memory_bar():
    """B8 T250 U60 D640 V1024, five positions: their logits alone are 39 MiB."""
    b, t, u, d, v = 8, 250, 60, 640, 1024

    def total(f, g, kernel, start, labels, frames, lengths):
        def joint(f, g):
            return jnp.tanh(f + g) @ kernel

        return pruned_loss(f, g, joint, start, labels, frames, lengths, s_range=5).sum()

    floats = [jax.ShapeDtypeStruct(s, jnp.float32) for s in [(b, t, d), (b, u + 1, d), (d, v)]]
    ints = [jax.ShapeDtypeStruct(s, jnp.int32) for s in [(b, t), (b, u), (b,), (b,)]]
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2))).lower(*floats, *ints).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes <= 24 << 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"am": np.zeros((B, T, V + 1))}, "am must be"),
        ({"lm_scale": 0.7, "am_scale": 0.7}, "shares of 1"),
        ({"labels": np.zeros((B, U + 1), int)}, "labels must be"),
        ({"s_range": 1}, "at least 2"),
        ({"joint": lambda f, g: (f + g).sum((1, 2))}, "joint must give"),
        ({"encoded": np.zeros((B, T + 1, V))}, "start must be"),
        ({"encoded": np.zeros((B, T, 1, V))}, "encoded must be"),
        ({"blank": V}, "blank must be"),
        ({"chunk": 0}, "chunk must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    fitting = {
        "encoded": np.zeros((B, T, V)),
        "predicted": np.zeros((B, U + 1, V)),
        "joint": lambda f, g: f + g,
        "am": np.zeros((B, T, V)),
        "lm": np.zeros((B, U + 1, V)),
        "labels": np.zeros((B, U), int),
        "encoded_lengths": FRAMES,
        "label_lengths": LENGTHS,
    }
    with pytest.raises(ValueError, match=message):
        pruned_transducer_loss(**(fitting | change))
