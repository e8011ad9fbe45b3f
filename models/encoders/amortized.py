"""The compute-amortized Transformer-Transducer's encoder: arbitrators open and close its parts.

The dense encoder is `transformer.py`; here every frame has a gate for each part of each block,

    block:  x <- x + gate_A attention(x)
            x <- x + gate_F FFN(x)

and a part whose gate is closed gives zeros for that frame and costs nothing. Arbitrators (`gates`)
see the encoder's input and, by option, the blocks' inputs. Parameters lie where the dense encoder
has them, so that one starts from the other.

What a frame without attention is to later frames:

- `keys="active"`: nothing. It is no key, and costs nothing.
- `keys="all"`: a key like any other. Its key and value are computed for every frame.

There are two ways to run. `masked` computes everything and multiplies by the gates; training and
whoever wants to see the gates use it. At inference parts run on the frames whose gates are open
alone: whole utterances are packed, a stream of one frame takes a branch. Both give the same.

Source: Xie et al. 2022, "Compute Cost Amortized Transformer for Streaming ASR", arXiv 2207.02393.
The shape of the arbitrator, the rule for keys and the straight-through gates are choices of this
implementation.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from ..attention import AttentionState, GatedState, SelfAttention
from ..gates import (
    ArbitratorConfig,
    BlockArbitrator,
    Relaxation,
    draw_gates,
    is_open,
    make_arbitrator,
    on_active,
)
from ..layers import dropout, mask_frames, split_key
from ..packed_attention import packed_attention
from ..remat import run_block
from .transformer import TransformerBlock, TransformerConfig, TransformerEncoder, TransformerShape


@dataclasses.dataclass(frozen=True)
class AmortizedConfig(TransformerShape):
    """A Transformer encoder with gates.

    Attributes:
      keys: whether frames without attention are keys to later ones, "active" or "all".
      theta: a gate is open where its probability is above; free to move after training.
      arbitrator: what decides about the gates.
    """

    keys: Literal["active", "all"] = "active"
    theta: float = 0.5
    arbitrator: ArbitratorConfig = dataclasses.field(default_factory=ArbitratorConfig)
    kind: Literal["amortized"] = "amortized"

    @property
    def dense(self) -> TransformerConfig:
        """The same encoder without gates."""
        shape = dataclasses.fields(TransformerShape)
        return TransformerConfig(**{f.name: getattr(self, f.name) for f in shape})


class AmortizedState(NamedTuple):
    """What a stream carries: the arbitrator's state, and each block's last frames."""

    arbitrator: jax.Array
    blocks: tuple[GatedState, ...]


class AmortizedEncoder(TransformerEncoder):
    """Subsampling, gated Transformer blocks, LayerNorm and a linear output.

    Attributes:
      receptive_field: as the dense encoder's, to which arbitrators add what they see; None where
        gates follow the time since the beginning.
      components: gates of a frame, two a block: attention and feed-forward.
    """

    config: AmortizedConfig

    def __init__(
        self,
        config: AmortizedConfig,
        input_size: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike = jnp.float32,
    ):
        super().__init__(config, input_size, rngs=rngs, dtype=dtype)
        if not 0.0 < config.theta < 1.0:
            raise ValueError(f"theta lies between 0 and 1, not at {config.theta}")
        arbitrator = config.arbitrator
        self.components = 2 * config.blocks
        # After the dense encoder's parts, which so begin as they do without gates.
        self.arbitrator = make_arbitrator(
            arbitrator, self.stride * input_size, self.components, rngs=rngs, dtype=dtype
        )
        # Training's Lagrange multiplier of the computation: kept where a resumed run finds it.
        self.price = nnx.Variable(jnp.zeros(()))
        self.heads = nnx.List(
            [
                BlockArbitrator(config.width, arbitrator.block_hidden, rngs=rngs, dtype=dtype)
                for _ in range(config.blocks if arbitrator.block_hidden else 0)
            ]
        )
        if arbitrator.kind == "learned":
            # The farthest frame's own gate looks back a little further.
            self.receptive_field = self.stride * (config.blocks * config.left + arbitrator.context)
        elif arbitrator.kind != "energy":
            self.receptive_field = None

    def init_state(self, batch: int) -> AmortizedState:
        """The state before the first frame."""
        closed = jnp.zeros((batch, self.config.left), bool)
        blocks = tuple(GatedState(block.init_state(batch), closed) for block in self.blocks)
        return AmortizedState(self.arbitrator.init_state(batch), blocks)

    def run(
        self,
        x: jax.Array,
        state: AmortizedState,
        within: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, AmortizedState]:
        if key is not None:
            y, _, _, state = self._masked(x, state, within, key, None)
            return y, state
        stacked, inside = self._stacked(x), self._inside(x, within)
        logits, arbitrator = self.arbitrator(stacked, state.arbitrator)
        y, after = self.input(stacked), []
        for i, block in enumerate(self.blocks):
            open_ = is_open(self._of_block(i, logits, block, y), self.config.theta)
            open_ = open_ & inside[:, :, None]
            if within is not None and self.config.keys == "active":
                # A whole utterance: nothing comes before it, and no one asks for its state.
                update, block_state = packed_attention(block.attention, y, open_[..., 0]), None
            else:
                update, block_state = self._attention(
                    block.attention, y, open_[..., 0], state.blocks[i]
                )
            y = y + update
            y = y + on_active(block.feed_forward, y, open_[..., 1], self.config.width)
            after.append(state.blocks[i] if block_state is None else block_state)
        return self.output(self.norm(y)), AmortizedState(arbitrator, tuple(after))

    def masked(
        self,
        x: jax.Array,
        lengths: jax.Array,
        *,
        key: jax.Array | None = None,
        relaxation: Relaxation | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Whole utterances with everything computed and multiplied by the gates.

        Args:
          x: [B, T, D].
          lengths: [B], frames that count.
          key: given in training, for dropout and the gates' noise.
          relaxation: how gates are drawn; None: as at inference, with a straight-through gradient.

        Returns:
          `(y [B, T // stride, output], lengths [B], gates [B, T // stride, blocks, 2])`; gates
          are 0 or 1, and 0 on padding.
        """
        return self.masked_with_logits(x, lengths, key=key, relaxation=relaxation)[:3]

    def masked_with_logits(
        self,
        x: jax.Array,
        lengths: jax.Array,
        *,
        key: jax.Array | None = None,
        relaxation: Relaxation | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """`masked`, and with it the logits [B, T // stride, blocks, 2] of the gates."""
        x = mask_frames(x[:, : x.shape[1] // self.stride * self.stride], lengths)
        within = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
        y, gates, logits, _ = self._masked(x, self.init_state(x.shape[0]), within, key, relaxation)
        lengths = lengths // self.stride
        return mask_frames(y, lengths), lengths, gates, logits

    def _masked(
        self,
        x: jax.Array,
        state: AmortizedState,
        within: jax.Array | None,
        key: jax.Array | None,
        relaxation: Relaxation | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array, AmortizedState]:
        """y, gates, their logits [B, T, blocks, 2], the state."""
        count = len(self.blocks)
        keys = split_key(key, 2 * count + 1)
        stacked, inside = self._stacked(x), self._inside(x, within)
        logits, arbitrator = self.arbitrator(stacked, state.arbitrator)
        y = dropout(self.input(stacked), self.config.dropout, keys[2 * count])
        after, drawn, by = [], [], []
        for i, block in enumerate(self.blocks):
            own = self._of_block(i, logits, block, y)
            gates = draw_gates(own, keys[count + i], relaxation, self.config.theta)
            gates = jnp.where(inside[:, :, None], gates, 0.0)
            part_keys = split_key(keys[i], 2)
            update, block_state = self._masked_attention(
                block.attention, y, gates[..., 0], state.blocks[i], part_keys[0]
            )
            y = y + update
            update = run_block(block.feed_forward, y, key=part_keys[1])
            y = y + gates[..., 1, None].astype(y.dtype) * update
            after.append(block_state)
            drawn.append(gates)
            by.append(own)
        gates, logits = jnp.stack(drawn, axis=2), jnp.stack(by, axis=2)
        y = self.output(self.norm(y))
        return y, gates, logits, AmortizedState(arbitrator, tuple(after))

    @jax.named_scope("attention")
    def _masked_attention(
        self,
        part: SelfAttention,
        x: jax.Array,
        gates: jax.Array,
        state: GatedState,
        key: jax.Array | None,
    ) -> tuple[jax.Array, GatedState]:
        attention, h = part.attention, part.norm(x)
        projected = attention.query(h), attention.key(h), attention.value(h)
        key_gates = gates if self.config.keys == "active" else jnp.ones_like(gates)
        y, state = attention.attend_gated(*projected, key_gates, state)
        y = dropout(attention.output(y), part.dropout, key)
        return gates[:, :, None].astype(y.dtype) * y, state

    @jax.named_scope("attention")
    def _attention(
        self, part: SelfAttention, x: jax.Array, open_: jax.Array, state: GatedState
    ) -> tuple[jax.Array, GatedState]:
        """The next frames [B, n, D] of streams, projected where their gates are open."""
        attention, width = part.attention, self.config.width
        all_keys = self.config.keys == "all"
        if x.shape[0] * x.shape[1] == 1:
            return self._attention_of_one(part, x, open_, state)
        if all_keys:
            key, value = self._keys_and_values(part, x)
            query = on_active(lambda h: attention.query(part.norm(h)), x, open_, width)
        else:
            projected = on_active(lambda h: _projected(part, h), x, open_, 3 * width)
            query, key, value = jnp.split(projected, 3, axis=2)
        key_gates = jnp.ones_like(open_) if all_keys else open_
        y, state = attention.attend_gated(query, key, value, key_gates.astype(jnp.float32), state)
        return on_active(attention.output, y, open_, width), state

    def _attention_of_one(
        self, part: SelfAttention, x: jax.Array, open_: jax.Array, state: GatedState
    ) -> tuple[jax.Array, GatedState]:
        """One frame of one stream: a branch, of which the closed one computes nothing."""
        attention, all_keys = part.attention, self.config.keys == "all"
        key, value = self._keys_and_values(part, x) if all_keys else (jnp.zeros_like(x),) * 2

        def attend(x: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, GatedState]:
            if all_keys:
                query = attention.query(part.norm(x))
            else:
                query, key, value = jnp.split(_projected(part, x), 3, axis=2)
            y, after = attention.attend_gated(
                query, key, value, jnp.ones(x.shape[:2], jnp.float32), state
            )
            return attention.output(y), after

        def pass_by(x: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, GatedState]:
            past = state.past
            after = AttentionState(
                jnp.concatenate([past.keys, key], axis=1)[:, 1:],
                jnp.concatenate([past.values, value], axis=1)[:, 1:],
                jnp.minimum(past.count + 1, attention.left),
            )
            is_key = jnp.full(x.shape[:2], all_keys)
            active = jnp.concatenate([state.active, is_key], axis=1)[:, 1:]
            return jnp.zeros_like(x), GatedState(after, active)

        return jax.lax.cond(open_.reshape(()), attend, pass_by, x, key, value)

    @jax.named_scope("every_key")
    def _keys_and_values(self, part: SelfAttention, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = part.norm(x)
        return part.attention.key(h), part.attention.value(h)

    def _of_block(
        self, i: int, logits: jax.Array, block: TransformerBlock, x: jax.Array
    ) -> jax.Array:
        """Logits [B, T, 2] of a block's gates, of which x [B, T, D] is the input."""
        own = logits[..., 2 * i : 2 * i + 2]
        return own + self.heads[i](block.attention.norm(x)) if len(self.heads) else own

    def _stacked(self, x: jax.Array) -> jax.Array:
        batch, frames, size = x.shape
        return x.reshape(batch, frames // self.stride, self.stride * size)

    def _inside(self, x: jax.Array, within: jax.Array | None) -> jax.Array:
        """[B, T // stride], frames that count; those that are whole."""
        batch, frames = x.shape[0], x.shape[1] // self.stride
        if within is None:
            return jnp.ones((batch, frames), bool)
        return within.reshape(batch, frames, self.stride).all(axis=2)


def _projected(part: SelfAttention, x: jax.Array) -> jax.Array:
    """Query, key and value side by side, of rows [..., D] before their norm."""
    attention, h = part.attention, part.norm(x)
    return jnp.concatenate([attention.query(h), attention.key(h), attention.value(h)], axis=-1)
