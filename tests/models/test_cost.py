"""The cost counter: every rule against a count by hand, and every family of encoders."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from parley.models.convolution import CausalConv, DepthwiseConv
from parley.models.cost import OTHER, by_part, cost, cost_by_scope, gflop, model_cost, state_bytes
from parley.models.encoders import EncoderConfig, make_encoder
from parley.models.encoders.conformer import ConformerConfig
from parley.models.encoders.contextnet import ContextNetConfig
from parley.models.encoders.conv_rnnt import ConvRNNTConfig
from parley.models.encoders.lstm import LSTMEncoderConfig
from parley.models.encoders.transformer import TransformerConfig
from parley.models.frontend import FrontendConfig, mel_filters
from parley.models.keys import weight_keys
from parley.models.layers import LSTM
from parley.models.transducer import (
    PredictionConfig,
    Transducer,
    TransducerConfig,
    parameter_count,
)


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


SQUARE, ROWS = shape(8, 8), shape(5, 8)
PRODUCT = 5 * 8 * 8  # ROWS @ SQUARE


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


@jax.custom_vjp
def with_gradient(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


with_gradient.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, d: (d @ kept[1].T, kept[0].T @ d))


@jax.custom_jvp
def with_tangent(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


with_tangent.defjvp(lambda xw, d: (xw[0] @ xw[1], d[0] @ xw[1] + xw[0] @ d[1]))


class TestProducts:
    def test_batch_and_contraction(self):
        def scores(q: jax.Array, k: jax.Array) -> jax.Array:
            return jnp.einsum("bthd,bshd->bhts", q, k)

        assert cost(scores, shape(2, 7, 3, 16), shape(2, 9, 3, 16)) == 2 * 3 * 7 * 9 * 16
        assert cost(lambda a, b: jnp.tensordot(a, b, 2), shape(3, 4, 5), shape(4, 5, 6)) == 360

    def test_a_map_over_rows_is_the_product_of_all(self):
        assert cost(jax.vmap(lambda x, w: x @ w, (0, None)), ROWS, SQUARE) == PRODUCT

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("dilation", [1, 3])
    @pytest.mark.parametrize("groups", [1, 4])
    def test_convolutions_as_xla_counts_them(self, stride: int, dilation: int, groups: int):
        def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(
                x, w, (stride, 1), "VALID", rhs_dilation=(dilation, 1),
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
            )  # fmt: skip

        x, w = shape(2, 30, 11, 8), shape(5, 3, 8 // groups, 12)
        rows = (30 - 4 * dilation - 1) // stride + 1
        count = cost(convolve, x, w)
        assert count == 2 * rows * 9 * 12 * (5 * 3 * 8 // groups)
        known = jax.jit(convolve).lower(x, w).cost_analysis()
        assert known is not None
        assert known["flops"] == 2 * count

    def test_padding_counts_like_values(self):
        def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(x, w, (1,), "SAME")

        assert cost(convolve, shape(1, 3, 20), shape(6, 3, 5)) == 20 * 5 * 3 * 6

    def test_holes_of_a_transposed_convolution_do_not_count(self):
        def upsample(x: jax.Array, w: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(x, w, (1,), [(3, 3)], lhs_dilation=(2,))

        # Every input position meets each of the four taps once, and so do the zeros at the ends
        # that fall on the grid of values: 20 + 2 positions less the taps that hang over.
        x = np.ones((1, 3, 20), np.float32)
        grid = np.zeros(3 + 39 + 3)
        grid[3::2] = grid[1] = 1
        met = sum(grid[i : i + 4].sum() for i in range(len(grid) - 3))
        assert cost(upsample, x, shape(6, 3, 4)) == met * 3 * 6

    def test_a_gradient_is_two_more_products(self):
        gradient = jax.grad(lambda x, w: jnp.sin(x @ w).sum(), argnums=(0, 1))
        assert cost(gradient, ROWS, SQUARE) == 3 * PRODUCT

    def test_elementwise_arithmetic_is_free(self):
        assert cost(lambda x: jax.nn.softmax(jnp.exp(x) * x / 3.0).sum(), ROWS) == 0

    def test_nothing_is_computed(self):
        huge = shape(10**7, 10**7)  # 400 TB
        assert cost(product, huge, huge) == 10**21


class TestControl:
    @pytest.mark.parametrize(
        "function",
        [
            jax.jit(product),
            jax.jit(jax.jit(product)),
            jax.checkpoint(product),
            with_gradient,
            with_tangent,
            lambda x, w: jax.lax.map(lambda row: row @ w, x),
            lambda x, w: jax.lax.fori_loop(0, 1, lambda _, y: y @ w, x),
        ],
    )
    def test_calls_are_entered_once(self, function: Callable[..., Any]):
        assert cost(function, ROWS, SQUARE) == PRODUCT

    def test_scans_are_multiplied(self):
        def nested(x: jax.Array, w: jax.Array) -> jax.Array:
            def inner(x: jax.Array, _: None):
                return x @ w, None

            def outer(x: jax.Array, _: None):
                return jax.lax.scan(inner, x @ w, None, length=3)

            return jax.lax.scan(outer, x, None, length=7)[0]

        assert cost(nested, ROWS, SQUARE) == 7 * (1 + 3) * PRODUCT

    def test_a_condition_costs_its_dearest_branch(self):
        def choose(i: jax.Array, x: jax.Array, w: jax.Array) -> jax.Array:
            branches = [lambda x: x, lambda x: x @ w @ w, lambda x: x @ w]
            return jax.lax.switch(i, branches, x)

        assert cost(choose, shape(dtype=jnp.int32), ROWS, SQUARE) == 2 * PRODUCT

    def test_an_endless_loop_needs_a_bound(self):
        def search(x: jax.Array, w: jax.Array) -> jax.Array:
            return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x)

        with pytest.raises(ValueError, match=r"while loop in decoder holds products.*loop_bound"):
            cost(jax.named_scope("decoder")(search), ROWS, SQUARE)
        assert cost(search, ROWS, SQUARE, loop_bound=6) == 6 * PRODUCT
        assert cost(lambda x: jax.lax.while_loop(lambda x: x > 0, lambda x: x - 1, x), 3.0) == 0

    def test_what_it_does_not_know_it_refuses(self):
        mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
        spread = jax.shard_map(product, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
        with pytest.raises(ValueError, match="inside shard_map cannot be counted"):
            cost(spread, ROWS, SQUARE)


class TestScopes:
    def test_products_are_told_apart(self):
        def model(x: jax.Array, w: jax.Array) -> jax.Array:
            for layer in range(2):
                with jax.named_scope(f"layers/{layer}"):
                    with jax.named_scope("attention"):
                        x = jax.jit(product)(x, w)
                    with jax.named_scope("mlp"):
                        # A scope within a scan within a scope.
                        def turn(x: jax.Array, _: None):
                            with jax.named_scope("inner"):
                                return x @ w, None

                        x, _ = jax.lax.scan(turn, x, None, length=4)
            return x @ w

        args = ROWS, SQUARE
        assert cost_by_scope(model, *args) == {"layers": 10 * PRODUCT, OTHER: PRODUCT}
        assert cost_by_scope(model, *args, depth=3) == {
            "layers/0/attention": PRODUCT,
            "layers/0/mlp": 4 * PRODUCT,
            "layers/1/attention": PRODUCT,
            "layers/1/mlp": 4 * PRODUCT,
            OTHER: PRODUCT,
        }
        assert sum(cost_by_scope(model, *args, depth=9).values()) == cost(model, *args)

    def test_transformations_keep_the_names(self):
        @jax.named_scope("mlp")
        def mlp(x: jax.Array, w: jax.Array) -> jax.Array:
            return jnp.sin(x @ w).sum()

        gradient = jax.grad(lambda x, w: jax.vmap(mlp, (0, None))(x, w).sum(), argnums=(0, 1))
        assert cost_by_scope(gradient, ROWS, SQUARE) == {"mlp": 3 * PRODUCT}


def call_cost(build: Callable[[], nnx.Module], method: str, *args: Any) -> int:
    """Of a module of shapes only: `args` are what follows the module."""
    return method_cost(nnx.eval_shape(build), method, *args)


def method_cost(module: nnx.Module, method: str, *args: Any) -> int:
    graphdef, variables = nnx.split(module)

    def call(variables: Any, *args: Any) -> Any:
        return getattr(nnx.merge(graphdef, variables), method)(*args)

    return cost(call, variables, *args)


def step_cost(config: EncoderConfig, input_size: int = 192) -> int:
    """Multiply-adds of an encoder's step on one stride of frames."""

    encoder: Any = nnx.eval_shape(lambda: make_encoder(config, input_size, rngs=weight_keys(0)))
    chunk = shape(1, encoder.stride, input_size)
    return method_cost(encoder, "step", chunk, jax.eval_shape(lambda: encoder.init_state(1)))


def lstm_by_hand(inputs: int, width: int) -> int:
    """One frame: four gates of the input and of the last output."""
    return 4 * width * (inputs + width)


def attention_by_hand(width: int, heads: int, left: int) -> int:
    """One frame: query, key, value, output; scores and sum over the past and itself; and scores of
    the positions, whose matrix is multiplied into the query head by head."""
    return 4 * width**2 + 2 * (left + 1) * width + width**2 + heads * (left + 1) * width


class TestLayersByHand:
    def test_lstm(self):
        def build() -> LSTM:
            return LSTM(6, 10, rngs=nnx.Rngs(0))

        count = call_cost(build, "__call__", shape(3, 7, 6))
        assert count == 3 * 7 * lstm_by_hand(6, 10)

    @pytest.mark.parametrize("stride", [1, 2])
    def test_depthwise(self, stride: int):
        def build() -> DepthwiseConv:
            return DepthwiseConv(16, 5, dilation=2, stride=stride, rngs=nnx.Rngs(0))

        count = call_cost(build, "__call__", shape(2, 12, 16), shape(2, 9 - stride, 16))
        assert count == 2 * (12 // stride) * 16 * 5

    def test_causal(self):
        def build() -> CausalConv:
            return CausalConv(6, 10, 5, stride=2, rngs=nnx.Rngs(0))

        count = call_cost(build, "__call__", shape(2, 12, 6), shape(2, 3, 6))
        assert count == 2 * 6 * 5 * 6 * 10


class TestFamiliesByHand:
    """An encoder's step, from the sizes in its configuration alone."""

    def test_lstm(self):
        config = LSTMEncoderConfig(width=640, layers=7, output=512, norm=True)
        hand = lstm_by_hand(192, 640) + 6 * lstm_by_hand(640, 640) + 640 * 512
        assert step_cost(config) == hand
        assert gflop(hand / 0.03) == pytest.approx(1.4746, abs=1e-4)

    def test_lstm_at_half_rate(self):
        config = LSTMEncoderConfig(width=20, layers=3, output=7, reduce_after=1)
        hand = 2 * lstm_by_hand(12, 20) + lstm_by_hand(40, 20) + lstm_by_hand(20, 20) + 20 * 7
        assert step_cost(config, 12) == hand

    @pytest.mark.parametrize("squeeze", ["cumulative", "off"])
    def test_conv_rnnt(self, squeeze: Any):
        config = ConvRNNTConfig(
            lstm=LSTMEncoderConfig(width=640, layers=6, output=512), width=320, squeeze=squeeze
        )
        # Bins 64 -> 32 -> 16 -> 8 -> 8, three stacked frames as input channels, kernels 5 x 5.
        local = 25 * (32 * 3 * 100 + 16 * 100 * 100 + 8 * 100 * 64 + 8 * 64 * 64) + 8 * 64 * 320
        block = 2 * 320 * 640 + 3 * 640 + (2 * 320 * (320 // 16) if squeeze != "off" else 0)
        lstm = lstm_by_hand(320, 640) + 5 * lstm_by_hand(640, 640) + 640 * 512
        hand = local + 6 * block + 640 * 320 + lstm
        assert step_cost(config) == hand
        assert gflop(hand / 0.03) < 1.95

    @pytest.mark.parametrize("stride", [1, 2])
    def test_conformer(self, stride: int):
        config = ConformerConfig(
            width=144, heads=4, blocks=3, output=50, left=64, kernel=15, subsample=stride
        )
        enter = 3 * 192 * 144 + 144 * 144
        feed_forward = 2 * 144 * 4 * 144
        convolution = 144 * 2 * 144 + 15 * 144 + 144 * 144
        block = 2 * feed_forward + attention_by_hand(144, 4, 64) + convolution
        assert step_cost(config) == enter + 3 * block + 144 * 50

    @pytest.mark.parametrize("stride", [1, 2])
    def test_transformer(self, stride: int):
        config = TransformerConfig(
            width=128, heads=4, blocks=3, output=50, left=32, expansion=3, subsample=stride
        )
        block = attention_by_hand(128, 4, 32) + 2 * 128 * 3 * 128
        assert step_cost(config) == stride * 192 * 128 + 3 * block + 128 * 50

    def test_contextnet(self):
        config = ContextNetConfig(
            widths=(16, 24, 32, 40), output=50, layers=2, kernel=5, strided=(1,)
        )

        def layer(inputs: int, width: int) -> int:
            return 5 * inputs + inputs * width

        def squeeze(width: int) -> int:
            return 2 * width * (width // 8)

        # Two frames until the last layer of block 1, one from there on; blocks 1 and 2 have a
        # shortcut.
        hand = 2 * (layer(192, 16) + squeeze(16) + layer(16, 24))
        hand += layer(24, 24) + squeeze(24) + 16 * 24
        hand += layer(24, 32) + layer(32, 32) + squeeze(32) + 24 * 32
        hand += layer(32, 40) + squeeze(40) + 40 * 50
        assert step_cost(config) == hand


@pytest.fixture(scope="module")
def config() -> TransducerConfig:
    return TransducerConfig(
        vocab_size=30,
        frontend=FrontendConfig(bins=16, stack=2),
        encoder=LSTMEncoderConfig(width=24, layers=2, output=20, reduce_after=1),
        prediction=PredictionConfig(embedding=8, width=12, layers=1, output=20),
        ctc=True,
    )


class TestModel:
    def test_every_part_by_hand(self, config: TransducerConfig):
        counted = model_cost(config, labels_per_second=3.0)
        dft_bins, filters = mel_filters(config.frontend)
        # 100 frames a second: even and odd half of a frame with the DFT, then the filters.
        assert counted.frontend == 100 * (2 * 200 * len(dft_bins) + filters.size)
        # An encoder step takes 40 ms: two feature vectors of 32.
        encoder = 2 * lstm_by_hand(32, 24) + lstm_by_hand(48, 24) + 24 * 20
        assert counted.encoder == 25 * encoder
        assert counted.prediction == 3 * (lstm_by_hand(8, 12) + 12 * 20)
        assert counted.joint == (25 + 3) * 20 * 30
        assert counted.total == (
            counted.frontend + counted.encoder + counted.prediction + counted.joint
        )

    def test_parameters_add_up(self, config: TransducerConfig):
        parameters = model_cost(config).parameters
        model = Transducer(config, rngs=nnx.Rngs(0))
        assert sum(parameters.values()) == parameter_count(model)
        assert isinstance(model.encoder, nnx.Module)
        assert parameters["encoder"] == parameter_count(model.encoder)
        assert parameters["joint"] == parameters["ctc"] == 21 * 30

    def test_parts_add_up(self, config: TransducerConfig):
        assert sum(by_part(config).values()) == model_cost(config).encoder

    def test_state(self, config: TransducerConfig):
        frontend = 240 + 16  # samples that the next frame needs, running mean
        encoder, prediction = 2 * 2 * 24, 2 * 12
        decoder = 20 + 2  # last output of the prediction network, frames so far and to skip
        assert state_bytes(config) == 4 * (frontend + encoder + prediction + decoder)
