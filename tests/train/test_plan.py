"""Plans count what a program does, and estimate no faster than its chip is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from parley.data.errors import InputError
from parley.train.losses.transducer import chunks_of, default_chunk
from parley.train.plan_chips import CHIPS, parse_topology
from parley.train.plan_compile import mesh_sizes, plan_step, step_shape
from parley.train.plan_hlo import Product, Program, Sent, _positions
from parley.train.plan_roofline import advice, collective_s, estimate, product_s, weak_scaling
from parley.train.recipe import MeshConfig
from tones import recipe

V5E = CHIPS["v5e"]


def program(function, *args, **options) -> Program:
    return Program(text_of(jax.jit(function), *args), **options)


def text_of(jitted, *args) -> str:
    return jitted.lower(*args).compile().as_text() or ""


def test_a_loop_counts_as_often_as_it_turns():
    w = jnp.ones((32, 32))

    def once(x):
        return jnp.tanh(x @ w)

    def often(x):
        return jax.lax.scan(lambda c, _: (once(c), None), x, None, length=7)[0]

    x = jnp.ones((16, 32))
    assert program(once, x).flops == 2 * 16 * 32 * 32
    assert program(often, x).flops == 7 * 2 * 16 * 32 * 32


def test_a_loop_over_data_takes_the_turns_it_is_given():
    w = jnp.ones((32, 32))

    def loop(x, n):
        return jax.lax.fori_loop(0, n, lambda i, c: jnp.tanh(c @ w), x)

    args = jnp.ones((16, 32)), jnp.int32(3)
    one = program(loop, *args, unknown_turns=1).flops
    assert one == 2 * 16 * 32 * 32
    assert program(loop, *args, unknown_turns=5).flops == 5 * one


def test_bytes_of_a_slice_are_not_those_of_the_whole():
    """A scan reads its input once in all, not once a turn."""
    x = jnp.ones((64, 128, 128))

    def loop(x):
        return jax.lax.scan(lambda c, row: (c + jnp.tanh(row), None), x[0], x)[0]

    moved = program(loop, x).traffic
    whole = x.size * 4
    # The input, and the carry read and written in every turn.
    assert whole < moved < 6 * whole


def test_collectives_are_found_with_their_bytes_and_groups():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = jax.ShapeDtypeStruct((64, 8), jnp.float32, sharding=NamedSharding(mesh, P("a")))
    whole = NamedSharding(mesh, P())
    text = text_of(jax.jit(lambda x: x.sum(0), out_shardings=whole), x)
    found = Program(text, chips=8).collectives()
    assert found == {"all-reduce": (1.0, 32.0)}
    (sent,) = [s for op in Program(text, chips=8).ops for s in op.sent]
    assert sent == Sent("all-reduce", 32, 4)
    assert sent.wire == 2 * 3 / 4 * 32


TPU = """HloModule jit_f, is_scheduled=true

%body.1 (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %w = f32[128,128]{1,0:T(8,128)S(1)} constant({...})
  %y = f32[8,128]{1,0:T(8,128)} convolution(%x, %w), dim_labels=bf_io->bf
  ROOT %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %y)
}

%condition.1 (p.1: (s32[], f32[8,128])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %n = s32[]{:T(128)} constant(40)
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %n), direction=LT
}

ENTRY %main (a: f32[8,128]) -> (s32[], f32[8,128]) {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%zero, /*index=1*/%a)
  ROOT %loop = (s32[], f32[8,128]{1,0}) while(%start), condition=%condition.1, body=%body.1
}
"""


def test_a_program_for_tpu_is_read():
    """A matrix product is a convolution there, a bound a constant, and `S(1)` is on the chip."""
    read = Program(TPU)
    assert read.flops == 40 * 2 * 8 * 128 * 128
    assert read.traffic == 40 * 2 * 8 * 128 * 4


OVERLAPPED = """HloModule jit_f, is_scheduled=true

%begun (p.2: f32[16,128]) -> f32[128,128] {
  %p.2 = f32[16,128] parameter(0)
  ROOT %g.1 = f32[128,128] all-gather(%p.2), channel_id=5, replica_groups=[1,8]<=[8], dimensions={0}
}

%goes_on (p.3: f32[16,128]) -> f32[128,128] {
  %p.3 = f32[16,128] parameter(0)
  ROOT %g.2 = f32[128,128] all-gather(%p.3), channel_id=5, replica_groups=[1,8]<=[8], dimensions={0}
}

%body.1 (p: (s32[], f32[16,128])) -> (s32[], f32[16,128]) {
  %p = (s32[]{:T(128)}, f32[16,128]) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[16,128] get-tuple-element(%p), index=1
  %step = f32[128,128] fusion(%x), kind=kCustom, calls=%goes_on
  %sum = f32[16,128] all-reduce(%x), channel_id=6, replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[16,128]) tuple(%i, %sum)
}

%condition.1 (p.1: (s32[], f32[16,128])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[16,128]) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%p.1), index=0
  %n = s32[]{:T(128)} constant(40)
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %n), direction=LT
}

ENTRY %main (a: f32[16,128]) -> (s32[], f32[16,128]) {
  %a = f32[16,128] parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %first = f32[128,128] fusion(%a), kind=kCustom, calls=%begun
  %start = (s32[]{:T(128)}, f32[16,128]) tuple(%zero, /*index=1*/%a)
  ROOT %loop = (s32[], f32[16,128]{1,0}) while(%start), condition=%condition.1, body=%body.1
}
"""


def test_a_collective_that_a_loop_overlaps_counts_once_and_one_of_the_loop_every_turn():
    assert Program(OVERLAPPED).collectives() == {
        "all-gather": (1.0, 16 * 128 * 4),
        "all-reduce": (40.0, 40 * 16 * 128 * 4),
    }


@settings(deadline=None, max_examples=60)
@given(
    *(st.integers(1, 9) for _ in range(2)), st.integers(1, 3), st.integers(0, 4),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 8),
)  # fmt: skip
def test_positions_of_a_convolution_are_those_that_meet_an_input(
    size, kernel, stride, low, dilated, spread, out
):
    padded = {low + i * spread for i in range(size)}
    expected = sum(o * stride + k * dilated in padded for o in range(out) for k in range(kernel))
    options = {"stride": stride, "low": low, "dilated": dilated, "spread": spread}
    assert _positions(size, kernel, out, **options) == expected


def test_no_product_beats_the_peak_and_small_ones_fill_tiles():
    full = Product(2.0 * 256**3, 256, 256, 256)
    assert product_s(full, V5E) == pytest.approx(full.flops / V5E.flops)
    thin = Product(2.0 * 1 * 256 * 256, 1, 256, 256)
    assert product_s(thin, V5E) == pytest.approx(8 * thin.flops / V5E.flops)
    assert product_s(dataclasses.replace(full, passes=6), V5E) == 6 * product_s(full, V5E)


@given(st.sampled_from(sorted(CHIPS)), st.integers(1, 2**30), st.integers(1, 10))
def test_an_all_reduce_takes_longer_among_more_chips(kind, size, doublings):
    few, many = 2**doublings, 2 ** (doublings + 1)
    chip = CHIPS[kind]
    times = [collective_s(Sent("all-reduce", size, n), chip, n) for n in (few, many)]
    assert 0 < times[0] < times[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9:2x2", "chips are"),
        ("v5e:2x2x2", "2 numbers"),
        ("h100:2x4", "1 number, as h100:8"),
        ("v5e:32x32", "256 chips"),
        ("v5e", "CHIP:SHAPE"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(name: str, said: str):
    with pytest.raises(InputError, match=said):
        parse_topology(name)


def test_a_mesh_takes_the_chips_that_are_left():
    assert mesh_sizes(MeshConfig(-1, 4, 2), 64) == (8, 4, 2)
    with pytest.raises(InputError, match="fit 64 chips"):
        mesh_sizes(MeshConfig(3, 1, 1), 64)


def test_a_planned_batch_has_rows_for_every_chip():
    made = recipe()
    shape = step_shape(made, (8, 1, 1), 2.0)
    assert (shape.rows, shape.audio_seconds / shape.rows) == (8, pytest.approx(2.04))
    wide = dataclasses.replace(made, data=dataclasses.replace(made.data, batch_seconds=80.0))
    assert step_shape(wide, (8, 1, 1), 2.0).rows == 32


def test_turns_of_the_loss_cover_every_tile():
    rows, frames, width, classes, inputs = 3, 101, 21, 500, 64
    turns = chunks_of(rows, frames, width, classes, inputs)
    tiles = default_chunk(classes, inputs) // 16
    assert turns * tiles >= 3 * 26 * 6 > (turns - 1) * tiles


@pytest.fixture(scope="module")
def planned():
    """A step on eight of the CPU's devices, in the place of GPUs."""
    made = recipe()
    vocabulary = dataclasses.replace(made.model, vocab_size=16)
    return plan_step(dataclasses.replace(made, model=vocabulary), "h100:8", 2.0)


@pytest.mark.slow
def test_a_plan_of_a_small_recipe(planned):
    assert planned["chips"] == 8
    assert planned["mesh"] == [8, 1, 1]
    assert planned["fits"]
    # Every gradient is summed over the chips once; loss, its parts and flags are a few bytes more.
    reduced = planned["collectives"]["all-reduce"]["bytes"]
    assert 4 * planned["parameters"] <= reduced < 4 * planned["parameters"] + 1024
    assert set(planned["collectives"]) == {"all-reduce"}
    assert planned["useful_flops"] > 0
    assert 0 < planned["mfu"] < 1
    hours = planned["estimate"]["step"] * planned["steps"] / 3600
    assert planned["hours"] == pytest.approx(hours)
    assert planned["chip_hours"] == pytest.approx(8 * hours)
    # The state: parameters, their average, two moments; the batch comes on top.
    assert planned["memory"]["arguments"] > 4 * 4 * planned["parameters"]


@pytest.mark.slow
def test_weak_scaling_loses_to_communication_alone(planned):
    rows = weak_scaling(planned, CHIPS["h100"], (8, 16, 64))
    own = planned["estimate"]["step"]
    assert rows[0]["step"] == pytest.approx(own, rel=0.05)
    assert np.all(np.diff([r["efficiency"] for r in rows]) < 0)


@pytest.mark.slow
def test_advice_names_the_option(planned):
    full = {**planned["memory"], "total": 2 * planned["memory"]["capacity"]}
    said = " ".join(advice({**planned, "memory": full, "fits": False}))
    assert "--remat blocks" in said
    assert "--data.batch-seconds" in said


def test_an_estimate_adds_up():
    spent = estimate(Program(TPU), V5E, 1)
    assert spent.step == pytest.approx(40 * V5E.launch_s)
    assert spent.as_dict()["launch"] == spent.step
