"""Transformer-Transducers: an encoder of attention to a limited past, dense.

    parley train tt-tiny                                       # `words`, on two CPU cores
    parley train tt-30m --data.train-split train-clean-100 ...    # accelerators

Front end, prediction network, joint, data and augmentation are those of the LSTM transducers in
configs/rnnt.py, so that what differs is the encoder; learning rates are the family's own.
"""

import dataclasses

from ..models.encoders.transformer import TransformerConfig
from ..models.frontend import FrontendConfig
from ..train.recipe import OptimizerConfig, Recipe
from . import rnnt

# 1.20 M parameters. Frames of 60 ms; the 32 frames of the past are 1.9 s for each block.
TINY = dataclasses.replace(
    rnnt.TINY,
    frontend=FrontendConfig(stack=3),
    encoder=TransformerConfig(
        width=112, heads=4, blocks=6, output=128, left=32, subsample=2, dropout=0.0
    ),
)

# Frames of 30 ms, as in the LSTM transducer of this size; 64 frames of the past, 1.9 s a block.
LARGE = dataclasses.replace(
    rnnt.LARGE, encoder=TransformerConfig(width=320, heads=5, blocks=17, output=512)
)

PRESETS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            rnnt.PRESETS["rnnt-tiny-words"],
            name="tt-tiny",
            description="Transformer-Transducer for the 60 words of the embedded corpus.",
            model=TINY,
            optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=500),
        ),
        dataclasses.replace(
            rnnt.PRESETS["rnnt-30m"],
            name="tt-30m",
            description="Transformer-Transducer of 32.0 M parameters, for LibriSpeech.",
            model=LARGE,
        ),
    )
}
