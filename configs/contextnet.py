"""ContextNet in causal streaming form: convolutions alone.

    parley train contextnet-tiny     # `words`: for two CPU cores
    parley train contextnet-30m --data.train-split train-clean-100 ...    # accelerators

`contextnet-0.5` and `contextnet-1` are the paper's encoders, from 10 ms frames to 80 ms; the others
see 30 ms frames like every family and give 60 ms. Compared with them in docs/results/encoders.md.
"""

import dataclasses

from ..models.encoders.contextnet import ContextNetConfig
from ..models.frontend import FrontendConfig
from ..models.transducer import TransducerConfig
from .rnnt import LARGE, LIBRISPEECH, TINY, TINY_WORDS


def scaled(alpha: float, *, strided: tuple[int, ...] = (3, 7, 14)) -> ContextNetConfig:
    """The paper's 23 blocks, their channels times `alpha` in multiples of 8."""
    narrow, wide, last = (8 * round(alpha * width / 8) for width in (256, 512, 640))
    widths = (narrow,) * 11 + (wide,) * 11 + (last,)
    return ContextNetConfig(widths=widths, output=LARGE.prediction.output, strided=strided)


def _named(alpha: float) -> TransducerConfig:
    return dataclasses.replace(LARGE, frontend=FrontendConfig(stack=1), encoder=scaled(alpha))


PRESETS = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            TINY_WORDS,
            name="contextnet-tiny",
            description="ContextNet of a million parameters, for the embedded corpus's words.",
            model=dataclasses.replace(
                TINY,
                frontend=FrontendConfig(stack=3),
                # Six blocks of three layers between the first and the last: on a CPU a program of
                # the paper's 23 blocks takes minutes to compile.
                encoder=ContextNetConfig(
                    widths=(144,) * 4 + (208,) * 3 + (256,), output=128, layers=3, strided=(2,)
                ),
            ),
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="contextnet-30m",
            description="ContextNet for LibriSpeech, as large as rnnt-30m.",
            model=dataclasses.replace(LARGE, encoder=scaled(0.985, strided=(3,))),
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="contextnet-0.5",
            description="The paper's ContextNet at half its width, causal, for LibriSpeech.",
            model=_named(0.5),
        ),
        dataclasses.replace(
            LIBRISPEECH,
            name="contextnet-1",
            description="The paper's ContextNet, causal, for LibriSpeech.",
            model=_named(1.0),
        ),
    )
}
