"""RNN-T loss through a joint, in chunks: the same numbers as from logits, in less memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from parley.train.losses import default_chunk, rnnt_loss, transducer_loss
from parley.train.losses.transducer import CHUNK_BYTES, TILE

B, T, U, D, V = 8, 7, 4, 6, 5
FRAMES = np.array([7, 5, 1, 0, 2, 7, 3, 6], np.int32)
LENGTHS = np.array([4, 2, 3, 1, 4, 0, 1, 4], np.int32)  # an empty row, T < U, no labels


@pytest.fixture(scope="module")
def batch() -> dict[str, jax.Array]:
    """Random encoder and prediction outputs, parameters of a joint, labels."""
    keys = jax.random.split(jax.random.key(0), 5)
    return {
        "encoded": jax.random.normal(keys[0], (B, T, D)),
        "predicted": jax.random.normal(keys[1], (B, U + 1, D)),
        "kernel": jax.random.normal(keys[2], (D, V)),
        "bias": jax.random.normal(keys[3], (1, 1, 1, V)),
        "labels": jax.random.randint(keys[4], (B, U), 1, V),
    }


def _joint(kernel, bias):
    return lambda f, g: jnp.tanh(f + g) @ kernel + bias


CELLS = TILE[0] * TILE[1]


def _chunked(chunk, fastemit=0.0, sharding=None):
    """Weighted total and all gradients; the joint closes over traced parameters."""

    def total(encoded, predicted, kernel, bias, labels):
        loss = transducer_loss(
            encoded,
            predicted,
            _joint(kernel, bias),
            labels,
            jnp.asarray(FRAMES),
            jnp.asarray(LENGTHS),
            fastemit=fastemit,
            chunk=chunk,
            sharding=sharding,
        )
        return loss @ jnp.linspace(0.5, 2, B, dtype=loss.dtype), loss

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True))


def _whole(encoded, predicted, kernel, bias, labels, fastemit=0.0):
    """The same from full logits."""

    def total(encoded, predicted, kernel, bias):
        logits = _joint(kernel, bias)(encoded[:, :, None], predicted[:, None])
        loss = rnnt_loss(logits, labels, FRAMES, LENGTHS, fastemit=fastemit)
        return loss @ jnp.linspace(0.5, 2, B), loss

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True))(
        encoded, predicted, kernel, bias
    )


def _assert_close(actual, expected, atol=2e-6):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-6, atol=atol)


@pytest.fixture(scope="module")
def expected(batch):
    """The reference for every chunk size: value, losses and gradients from full logits."""
    return _whole(*batch.values(), fastemit=0.1)


# One tile at a time, three (which do not divide those there are), and all at once.
@pytest.mark.parametrize("chunk", [1, 3 * CELLS, None])
def test_equals_the_loss_of_the_whole_logits(batch, expected, chunk):
    assert all(np.abs(g).max() > 0.1 for g in expected[1])
    _assert_close(_chunked(chunk, fastemit=0.1)(*batch.values()), expected)


def test_nan_in_padding_changes_nothing(batch):
    run = _chunked(3 * CELLS)
    late = np.arange(T) >= FRAMES[:, None]
    beyond = np.arange(U + 1) > LENGTHS[:, None]
    dirty = batch | {
        "encoded": jnp.where(late[..., None], jnp.nan, batch["encoded"]),
        "predicted": jnp.where(beyond[..., None], jnp.nan, batch["predicted"]),
        "labels": jnp.where(beyond[:, 1:], 1 << 20, batch["labels"]),
    }
    (_, loss), gradients = run(*dirty.values())
    jax.tree.map(np.testing.assert_array_equal, ((_, loss), gradients), run(*batch.values()))
    assert loss[3] == 0
    assert (np.asarray(gradients[0])[late] == 0).all()
    assert (np.asarray(gradients[1])[beyond] == 0).all()
    assert (np.asarray(gradients[1])[3] == 0).all()


def test_gradient_reaches_the_parameters_of_a_merged_module(batch):
    class Joint(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.out = nnx.Linear(D, V, rngs=rngs)

        def __call__(self, f, g):
            return self.out(jnp.tanh(f + g))

    graphdef, params = nnx.split(Joint(nnx.Rngs(0)))
    rest = batch["labels"], FRAMES, LENGTHS

    @jax.jit
    @jax.grad
    def chunked(params):
        joint = nnx.merge(graphdef, params)
        return transducer_loss(
            batch["encoded"], batch["predicted"], joint, *rest, chunk=CELLS
        ).sum()

    @jax.jit
    @jax.grad
    def whole(params):
        joint = nnx.merge(graphdef, params)
        logits = joint(batch["encoded"][:, :, None], batch["predicted"][:, None])
        return rnnt_loss(logits, *rest).sum()

    _assert_close(chunked(params), whole(params), atol=5e-6)


def test_a_joint_may_close_over_a_random_key(batch):
    def total(encoded, key):
        def joint(f, g):
            keep = jax.random.bernoulli(key, 0.5, (D,))
            return jnp.where(keep, jnp.tanh(f + g), 0) @ batch["kernel"]

        rest = batch["labels"], FRAMES, LENGTHS
        return transducer_loss(encoded, batch["predicted"], joint, *rest, chunk=CELLS).sum()

    with jax.numpy_rank_promotion("allow"):
        run = jax.jit(jax.value_and_grad(total))
        one, gradient = run(batch["encoded"], jax.random.key(1))
        other, _ = run(batch["encoded"], jax.random.key(2))
    assert np.isfinite(gradient).all()
    assert one != other


def test_bfloat16_keeps_sums_over_chunks_in_float32(batch):
    """Adding 200 chunks in bfloat16 would lose the small ones: 8 bits of mantissa."""
    n_frames = 200
    keys = jax.random.split(jax.random.key(3), 2)
    narrow = [
        jax.random.normal(keys[0], (2, n_frames, D), jnp.bfloat16),
        jax.random.normal(keys[1], (2, U + 1, D), jnp.bfloat16),
        batch["kernel"].astype(jnp.bfloat16),
    ]
    rest = batch["labels"][:2], np.full(2, n_frames), np.full(2, U)

    def run(inputs, dtype, chunk):
        def total(f, g, kernel):
            def joint(f, g):
                return jnp.tanh(f + g) @ kernel

            loss = transducer_loss(f, g, joint, *rest, chunk=chunk)
            return loss.sum(), loss

        inputs = [x.astype(dtype) for x in inputs]
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(*inputs)

    (_, loss), gradients = run(narrow, jnp.bfloat16, 1)
    (_, wide_loss), wide_gradients = run(narrow, jnp.float32, 50 * CELLS)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, wide_loss, rtol=1e-3)
    for gradient, wide in zip(gradients, wide_gradients, strict=True):
        assert gradient.dtype == jnp.bfloat16
        error = np.linalg.norm(gradient.astype(jnp.float32) - wide) / np.linalg.norm(wide)
        assert error < 0.02


def test_float64_all_the_way(batch):
    with jax.enable_x64(True):
        wide = {k: jnp.asarray(np.asarray(v), jnp.float64) for k, v in batch.items()}
        wide["labels"] = jnp.asarray(np.asarray(batch["labels"]))
        run = _chunked(CELLS)
        (_, loss), gradients = run(*wide.values())
        assert loss.dtype == jnp.float64
        step = 1e-6 * jax.random.normal(jax.random.key(7), (D, V), jnp.float64)
        up, down = (
            run(*(wide | {"kernel": wide["kernel"] + sign * step}).values())[0][0]
            for sign in (1, -1)
        )
        np.testing.assert_allclose((gradients[2] * step).sum(), (up - down) / 2, rtol=1e-7)


def test_a_batch_over_eight_devices_gives_the_same_numbers(batch):
    expected = _chunked(3 * CELLS)(*batch.values())
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    sharded = {
        name: jax.device_put(x, whole if name in ("kernel", "bias") else split)
        for name, x in batch.items()
    }
    with jax.set_mesh(mesh):
        actual = _chunked(3 * CELLS, sharding=split)(*sharded.values())
    assert actual[1][0].sharding.spec[0] == "data"
    _assert_close(actual, expected)


@pytest.mark.parametrize("sizes", [(8, 1), (4, 2), (1, 8)])
def test_neither_rows_nor_logits_are_gathered(batch, sizes):
    """Rows over `data`, the vocabulary over `model`: same numbers, and what passes between devices
    is smaller than the joint's inputs."""
    n_classes = 8
    kernel = jax.random.normal(jax.random.key(5), (D, n_classes))
    bias = jnp.zeros((1, 1, 1, n_classes))
    inputs = batch["encoded"], batch["predicted"], kernel, bias, batch["labels"]
    expected = _chunked(None)(*inputs)
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh(sizes, ("data", "model"), axis_types=kinds)
    rows = NamedSharding(mesh, P("data"))
    classes = [NamedSharding(mesh, P(*[None] * n, "model")) for n in (1, 3)]
    places = (rows, rows, *classes, rows)
    placed = [jax.device_put(x, place) for x, place in zip(inputs, places, strict=True)]
    program = _chunked(None, sharding=rows).lower(*placed).compile()
    text = program.as_text()
    assert text is not None
    gathered = re.findall(r"= f32\[([\d,]*)\]\S* all-(?:gather|to-all)", text)
    assert set(gathered) <= {str(B)}, "nothing but one number a row"
    _assert_close(program(*placed), expected)


def test_memory_bar():
    """B8 T250 U60 D640 V1024: the logits alone are 477 MiB, and so is their gradient."""
    b, t, u, d, v = 8, 250, 60, 640, 1024

    def total(f, g, kernel, labels, frames, lengths):
        def joint(f, g):
            return jnp.tanh(f + g) @ kernel

        return transducer_loss(f, g, joint, labels, frames, lengths).sum()

    floats = [jax.ShapeDtypeStruct(s, jnp.float32) for s in [(b, t, d), (b, u + 1, d), (d, v)]]
    ints = [jax.ShapeDtypeStruct(s, jnp.int32) for s in [(b, u), (b,), (b,)]]
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2))).lower(*floats, *ints).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes <= 30 << 20


def test_default_chunk_fills_its_budget():
    assert default_chunk(1024, 640) == CHUNK_BYTES["cpu"] // (4 * 1664)
    # A small vocabulary behind a wide joint is no reason for large chunks.
    assert default_chunk(2, 640) == default_chunk(640, 2)
    assert default_chunk(10**8, 1) == 1


@pytest.mark.slow
def test_work_is_that_of_the_cells_there_are():
    """Chunks that are run, counted by the joint, for rows of very different lengths."""
    frames, lengths = np.array([40, 3, 0, 17]), np.array([20, 1, 5, 9])
    seen = []

    def joint(f, g):
        jax.debug.callback(lambda: seen.append(1))
        return jnp.tanh(f + g)

    f, g = jnp.ones((4, 40, D)), jnp.ones((4, 21, D))
    transducer_loss(f, g, joint, np.ones((4, 20), int), frames, lengths, chunk=CELLS)
    jax.effects_barrier()
    assert TILE == (4, 4)
    assert len(seen) == 10 * 6 + 1 * 1 + 0 + 5 * 3


def test_no_frames_at_all_gives_zeros(batch):
    loss = transducer_loss(
        batch["encoded"][:, :0],
        batch["predicted"],
        _joint(batch["kernel"], batch["bias"]),
        batch["labels"],
        jnp.zeros(B, int),
        LENGTHS,
    )
    np.testing.assert_array_equal(loss, np.zeros(B))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoded": np.zeros((B, T, 1, D))}, "encoded must be"),
        ({"labels": np.zeros((B, U + 1), int)}, "labels must be"),
        ({"encoded_lengths": np.zeros(1, int)}, "frame lengths must be"),
        ({"joint": lambda f, g: (f + g).sum((1, 2))}, "joint must give"),
        ({"blank": D}, "blank must be"),
        ({"chunk": 0}, "chunk must be"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    fitting = {
        "encoded": np.zeros((B, T, D)),
        "predicted": np.zeros((B, U + 1, D)),
        "joint": lambda f, g: f + g,
        "labels": np.zeros((B, U), int),
        "encoded_lengths": FRAMES,
        "label_lengths": LENGTHS,
    }
    with pytest.raises(ValueError, match=message):
        transducer_loss(**(fitting | change))
