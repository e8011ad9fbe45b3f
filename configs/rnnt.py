"""LSTM RNN-T: the plain streaming transducer.

parley train rnnt-tiny-words     # 5 minutes on two cores
"""

from ..data.augment import AugmentConfig
from ..data.loader import DataConfig
from ..data.tokenizer import TokenizerConfig
from ..models.encoders.lstm import LSTMEncoderConfig
from ..models.frontend import FrontendConfig
from ..models.transducer import JointConfig, PredictionConfig, TransducerConfig
from ..train.recipe import OptimizerConfig, Recipe

_TINY = TransducerConfig(
    vocab_size=128,
    frontend=FrontendConfig(stack=4),
    encoder=LSTMEncoderConfig(width=192, layers=3, output=192, reduce_after=1),
    prediction=PredictionConfig(embedding=64, width=128, layers=1, output=192),
    joint=JointConfig(),
    ctc=True,
)

PRESETS = {
    "rnnt-tiny": Recipe(
        name="rnnt-tiny",
        description="LSTM transducer of about 1 M parameters.",
        model=_TINY,
        tokenizer=TokenizerConfig(vocab_size=128),
        data=DataConfig(train="words", dev="words"),
        augment=AugmentConfig(),
        optimizer=OptimizerConfig(peak_lr=4e-3, warmup_steps=200),
        steps=2_000,
    ),
}
