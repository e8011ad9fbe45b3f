"""Causal convolutions against loops in float64, whole and in ragged chunks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parley.models.convolution import CausalConv, DepthwiseConv, plane_conv
from parley.models.streaming import run_in_chunks

INPUT, WIDTH, FRAMES = 3, 4, 24

DENSE = [(1, 1), (3, 1), (5, 1), (3, 2), (4, 3), (2, 2)]
"""(kernel, stride)."""
DEPTHWISE = [(1, 1, 1), (5, 1, 1), (3, 4, 1), (5, 1, 2), (3, 2, 2), (2, 3, 4), (3, 1, 3)]
"""(kernel, dilation, stride)."""


def sequence(width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, FRAMES, width)).astype(np.float32)


def frames_seen(x: np.ndarray, kernel: int, dilation: int, stride: int) -> np.ndarray:
    """[B, T, D] -> [B, T // stride, kernel, D] float64: what each output sees, oldest first."""
    batch, frames, width = x.shape
    seen = np.zeros((batch, frames // stride, kernel, width))
    for t in range(frames // stride):
        last = (t + 1) * stride - 1
        for j in range(kernel):
            frame = last - (kernel - 1 - j) * dilation
            if frame >= 0:
                seen[:, t, j] = x[:, frame]
    return seen


@pytest.mark.parametrize(("kernel", "stride"), DENSE)
def test_dense_convolution_is_the_loop_whole_and_in_chunks(kernel: int, stride: int):
    layer = CausalConv(INPUT, WIDTH, kernel, stride=stride, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(1.0, WIDTH + 1.0)
    x = sequence(INPUT)
    weights, bias = np.float64(layer.kernel[...]), np.float64(layer.bias[...])
    expected = np.einsum("btkd,kdw->btw", frames_seen(x, kernel, 1, stride), weights) + bias
    assert_whole_and_chunks(layer, x, expected)


@pytest.mark.parametrize(("kernel", "dilation", "stride"), DEPTHWISE)
def test_depthwise_convolution_is_the_loop_whole_and_in_chunks(
    kernel: int, dilation: int, stride: int
):
    layer = DepthwiseConv(WIDTH, kernel, dilation=dilation, stride=stride, rngs=nnx.Rngs(0))
    x = sequence(WIDTH)
    weights = np.float64(layer.kernel[...])
    expected = np.einsum("btkd,kd->btd", frames_seen(x, kernel, dilation, stride), weights)
    assert_whole_and_chunks(layer, x, expected)


def assert_whole_and_chunks(
    layer: CausalConv | DepthwiseConv, x: np.ndarray, expected: np.ndarray
) -> None:
    run = jax.jit(lambda x, state: layer(x, state))
    start = layer.init_state(x.shape[0])
    y, end = run(x, start)
    assert end.shape == start.shape, "the state keeps its shape"
    np.testing.assert_allclose(y, expected, atol=1e-5)
    # Chunks shorter than the state and longer, and one that waits for its multiple.
    for sizes in ((1,), (5, 2), (13,)):
        streamed = run_in_chunks(run, start, x, sizes, layer.stride)
        np.testing.assert_allclose(streamed, expected, atol=1e-5)


def test_the_state_is_no_longer_than_what_the_next_output_needs():
    dense = CausalConv(INPUT, WIDTH, 3, stride=2, rngs=nnx.Rngs(0))
    depthwise = DepthwiseConv(WIDTH, 3, dilation=4, stride=3, rngs=nnx.Rngs(0))
    assert dense.init_state(2).shape == (2, 3 - 2, INPUT)
    assert depthwise.init_state(2).shape == (2, 2 * 4 + 1 - 3, WIDTH)


def test_a_stride_longer_than_the_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel of 2 with dilation 1 leaves out frames"):
        CausalConv(INPUT, WIDTH, 2, stride=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="leaves out frames at stride 4"):
        DepthwiseConv(WIDTH, 2, dilation=2, stride=4, rngs=nnx.Rngs(0))


def test_depthwise_gradient_is_that_of_a_grouped_convolution():
    layer = DepthwiseConv(WIDTH, 3, dilation=2, stride=2, rngs=nnx.Rngs(0))
    x, state = jnp.asarray(sequence(WIDTH)), layer.init_state(2)
    graphdef, params = nnx.split(layer)

    def ours(params, x):
        return nnx.merge(graphdef, params)(x, state)[0]

    def grouped(params, x):
        return jax.lax.conv_general_dilated(
            jnp.concatenate([state, x], axis=1),
            nnx.merge(graphdef, params).kernel[...][:, None, :],
            (2,),
            "VALID",
            rhs_dilation=(2,),
            dimension_numbers=("NHC", "HIO", "NHC"),
            feature_group_count=WIDTH,
        )

    def gradients(function):
        return jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), (0, 1)))(params, x)

    for one, other in zip(
        jax.tree.leaves(gradients(ours)), jax.tree.leaves(gradients(grouped)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("bins", "over", "stride"), [(8, 5, 2), (7, 5, 2), (9, 3, 3), (6, 4, 1)])
def test_plane_convolution_is_the_loop_and_its_gradients_are_those_of_the_plain_one(
    bins: int, over: int, stride: int
):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = rng.normal(size=(2, 6, bins, 3)), rng.normal(size=(2, over, 3, 4))
        y = plane_conv(jnp.asarray(x), jnp.asarray(kernel), stride)
        padded = np.pad(x, ((0, 0), (0, 0), ((over - 1) // 2, over), (0, 0)))
        for t, f in itertools.product(range(5), range(-(-bins // stride))):
            seen = padded[:, t : t + 2, f * stride : f * stride + over]
            np.testing.assert_allclose(y[:, t, f], np.einsum("bjkc,jkcw->bw", seen, kernel))
        d = rng.normal(size=y.shape)
        sides = ((0, 0), ((over - 1) // 2, over // 2))

        def plain(x, kernel):
            names = ("NHWC", "HWIO", "NHWC")
            return jax.lax.conv_general_dilated(
                x, kernel, (1, stride), sides, dimension_numbers=names
            )

        ours, theirs = (
            jax.vjp(f, jnp.asarray(x), jnp.asarray(kernel))[1](jnp.asarray(d))
            for f in (lambda x, k: plane_conv(x, k, stride), plain)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)


@pytest.mark.parametrize("make", [CausalConv, lambda n, *args, **kw: DepthwiseConv(n, 3, **kw)])
def test_computes_in_its_type(make):
    layer = make(WIDTH, WIDTH, 3, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
    y, state = layer(jnp.asarray(sequence(WIDTH)), layer.init_state(2))
    assert (y.dtype, state.dtype, layer.kernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
