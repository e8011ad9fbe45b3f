"""Encoders: features in, frames for the joint out; one file a family.

Each keeps the streaming contract (`models/streaming.py`) and is made from its configuration alone.
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from .amortized import AmortizedConfig, AmortizedEncoder
from .conformer import ConformerConfig, ConformerEncoder
from .contextnet import ContextNetConfig, ContextNetEncoder
from .conv_rnnt import ConvRNNTConfig, ConvRNNTEncoder
from .fastconformer import FastConformerConfig, FastConformerEncoder
from .lstm import LSTMEncoder, LSTMEncoderConfig
from .separator import SeparatorConfig, SeparatorEncoder
from .transformer import TransformerConfig, TransformerEncoder

EncoderConfig = (
    LSTMEncoderConfig
    | ConvRNNTConfig
    | ConformerConfig
    | ContextNetConfig
    | TransformerConfig
    | AmortizedConfig
    | SeparatorConfig
    | FastConformerConfig
)

AnyEncoder = (
    LSTMEncoder
    | ConvRNNTEncoder
    | ConformerEncoder
    | ContextNetEncoder
    | TransformerEncoder
    | AmortizedEncoder
    | SeparatorEncoder
    | FastConformerEncoder
)

_ENCODERS = {
    LSTMEncoderConfig: LSTMEncoder,
    ConvRNNTConfig: ConvRNNTEncoder,
    ConformerConfig: ConformerEncoder,
    ContextNetConfig: ContextNetEncoder,
    TransformerConfig: TransformerEncoder,
    AmortizedConfig: AmortizedEncoder,
    SeparatorConfig: SeparatorEncoder,
    FastConformerConfig: FastConformerEncoder,
}


def make_encoder(
    config: EncoderConfig, input_size: int, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32
) -> AnyEncoder:
    """The encoder that `config` describes, for features of width `input_size`."""
    return _ENCODERS[type(config)](config, input_size, rngs=rngs, dtype=dtype)
