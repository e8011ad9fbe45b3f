"""ConvRNN-T: an LSTM stack behind a local and a global causal convolutional encoder.

    parley train conv-rnnt-tiny     # `words`
    parley train conv-rnnt-30m --data.train-split train-clean-100 ...    # accelerators

`conv-rnnt-30m` strides in frequency; `conv-rnnt-paper` has the strides of 1 and the seven LSTMs of
the paper, at several times the cost, for reference. `conv-rnnt-large` is for pods: see
docs/results/plan.md for what it takes. Compared with the other families in
docs/results/encoders.md.
"""

import dataclasses

from ..models.encoders.conv_rnnt import ConvRNNTConfig
from ..models.encoders.lstm import LSTMEncoderConfig
from ..models.frontend import FrontendConfig
from ..models.transducer import PredictionConfig
from .rnnt import LARGE, LIBRISPEECH, PODS, TINY, TINY_WORDS

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

_120M = dataclasses.replace(
    LARGE,
    encoder=ConvRNNTConfig(
        lstm=LSTMEncoderConfig(width=1280, layers=7, output=640, norm=True), shortcut=True
    ),
    prediction=PredictionConfig(embedding=640, width=1280, layers=2, output=640),
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
            name="conv-rnnt-large",
            description="ConvRNN-T of about 120 M parameters, for thousands of hours.",
            model=_120M,
            optimizer=PODS,
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="conv-rnnt-paper",
            description="ConvRNN-T with the paper's strides and widths, for reference: costly.",
            model=_PAPER,
        ),
    )
}
