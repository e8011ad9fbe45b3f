"""ConvRNN-T: an LSTM stack behind a local and a global causal convolutional encoder.

    parley train conv-rnnt-tiny     # `words`
    parley train conv-rnnt-30m --data.train-split train-clean-100 ...    # accelerators

`conv-rnnt-30m` strides in frequency; `conv-rnnt-paper` has the strides of 1 and the seven LSTMs of
the paper, at several times the cost, for reference. Compared with the other families in
docs/results/encoders.md.
"""

import dataclasses

from ..models.encoders.conv_rnnt import ConvRNNTConfig
from ..models.encoders.lstm import LSTMEncoderConfig
from ..models.frontend import FrontendConfig
from .rnnt import LARGE, LIBRISPEECH, TINY, TINY_WORDS

_TINY = dataclasses.replace(
    TINY,
    # 30 ms, halved behind the local encoder: 60 ms a frame, as in all families' tiny presets.
    frontend=FrontendConfig(stack=3),
    encoder=ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=152, layers=3, output=128, norm=True),
        width=96,
        channels=(16, 16, 16, 16),
        subsample=2,
        shortcut=True,
    ),
)

_30M = dataclasses.replace(
    LARGE,
    encoder=ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=640, layers=6, output=512, norm=True), shortcut=True
    ),
)

_PAPER = dataclasses.replace(
    LARGE,
    encoder=ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=640, layers=7, output=512, norm=True),
        width=512,
        frequency_strides=(1, 1, 1, 1),
    ),
)

PRESETS = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            TINY_WORDS,
            name="conv-rnnt-tiny",
            description="ConvRNN-T of about a million parameters, for the embedded corpus's words.",
            model=_TINY,
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="conv-rnnt-30m",
            description="ConvRNN-T for LibriSpeech, as large as rnnt-30m.",
            model=_30M,
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="conv-rnnt-paper",
            description="ConvRNN-T with the paper's strides and widths, for reference: costly.",
            model=_PAPER,
        ),
    )
}
