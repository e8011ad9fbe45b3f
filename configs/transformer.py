"""Transformer-Transducers: an encoder of attention to a limited past, dense.

    parley train tt-tiny                                       # `words`, on two CPU cores
    parley train tt-tiny-assistant                             # `assistant`, from tt-tiny
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

LARGEST = dataclasses.replace(
    rnnt.LARGE, encoder=TransformerConfig(width=704, heads=11, blocks=17, output=512)
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
        # Words in random order teach it to listen, sentences what it is for; with both from the
        # start and no words before, 3,000 steps leave a quarter of the words wrong.
        dataclasses.replace(
            rnnt.PRESETS["rnnt-tiny-words"],
            name="tt-tiny-assistant",
            description="Transformer-Transducer for requests to a voice assistant.",
            model=TINY,
            data=dataclasses.replace(
                rnnt.TINY_WORDS.data,
                train="assistant + words",
                dev="assistant",
                max_padding=0.25,
            ),
            augment=dataclasses.replace(rnnt.TINY_WORDS.augment, noise_probability=0.3),
            optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=200),
            init_from="tt-tiny",
            steps=5_000,
            eval_every=1_000,
            eval_utterances=420,
        ),
        dataclasses.replace(
            rnnt.PRESETS["rnnt-30m"],
            name="tt-30m",
            description="Transformer-Transducer of 32.0 M parameters, for LibriSpeech.",
            model=LARGE,
        ),
        dataclasses.replace(
            rnnt.PRESETS["rnnt-30m"],
            name="tt-large",
            description="Transformer-Transducer of about 120 M parameters.",
            model=LARGEST,
            optimizer=rnnt.PODS,
        ),
    )
}
