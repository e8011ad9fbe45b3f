"""Causal Conformer transducers: attention to a limited past, and depthwise convolutions.

    parley train conformer-tiny                                       # `words`, on two CPU cores
    parley train conformer-30m --data.train-split train-clean-100 ...    # accelerators

Front end, prediction network, joint, data and augmentation are those of the LSTM transducers in
configs/rnnt.py, so that what differs is the encoder; learning rates are the family's own.
"""

import dataclasses

from ..models.encoders.conformer import ConformerConfig
from ..models.frontend import FrontendConfig
from ..train.recipe import OptimizerConfig, Recipe
from . import rnnt

# 1.13 M parameters. Frames of 60 ms; the 32 frames of the past are 1.9 s for each block.
TINY = dataclasses.replace(
    rnnt.TINY,
    frontend=FrontendConfig(stack=3),
    encoder=ConformerConfig(
        width=96, heads=4, blocks=4, output=128, left=32, subsample=2, dropout=0.0
    ),
)

# Frames of 30 ms, as in the LSTM transducer of this size; 64 frames of the past, 1.9 s a block.
SMALL_ENCODER = ConformerConfig(width=144, heads=4, blocks=16, output=512)
MEDIUM_ENCODER = ConformerConfig(width=256, heads=4, blocks=16, output=512)
LARGE = dataclasses.replace(
    rnnt.LARGE, encoder=ConformerConfig(width=256, heads=4, blocks=14, output=512)
)

# The paper's Conformer-L, but causal.
LARGEST = dataclasses.replace(
    rnnt.LARGE, encoder=ConformerConfig(width=512, heads=8, blocks=17, output=512)
)

_WORDS = rnnt.PRESETS["rnnt-tiny-words"]
_LIBRISPEECH = rnnt.PRESETS["rnnt-30m"]

PRESETS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            _WORDS,
            name="conformer-tiny",
            description="Causal Conformer transducer for the 60 words of the embedded corpus.",
            model=TINY,
            optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=500),
        ),
        dataclasses.replace(
            _LIBRISPEECH,
            name="conformer-30m",
            description="Causal Conformer transducer of 31.6 M parameters, for LibriSpeech.",
            model=LARGE,
        ),
        dataclasses.replace(
            _LIBRISPEECH,
            name="conformer-large",
            description="Causal Conformer-L transducer of about 120 M parameters.",
            model=LARGEST,
            optimizer=rnnt.PODS,
        ),
        dataclasses.replace(
            _LIBRISPEECH,
            name="conformer-s",
            description="Causal Conformer-S encoder of 8.2 M parameters, for LibriSpeech.",
            model=dataclasses.replace(LARGE, encoder=SMALL_ENCODER),
        ),
        dataclasses.replace(
            _LIBRISPEECH,
            name="conformer-m",
            description="Causal Conformer-M encoder of 25.7 M parameters, for LibriSpeech.",
            model=dataclasses.replace(LARGE, encoder=MEDIUM_ENCODER),
        ),
    )
}
