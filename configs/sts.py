"""Separator-transducer-segmenter: two talkers in one stream, with markers around their turns.

    parley train sts-tiny            # the embedded corpus's conversations, from rnnt-tiny's weights
    parley train sts-small ...       # accelerators
    parley train sts-large ...       # the paper's size, accelerators

Sklyar et al. 2022, arXiv 2205.05199. The paper gives no sizes of layers; these are ours. Results:
docs/results/sts.md, and the models' cards.
"""

from dataclasses import replace

from ..data.augment import AugmentConfig
from ..data.loader import DataConfig
from ..data.tokenizer import TokenizerConfig
from ..models.encoders.separator import SeparatorConfig
from ..models.frontend import FrontendConfig
from ..models.transducer import PredictionConfig, TransducerConfig
from ..train.recipe import LossConfig, OptimizerConfig, Recipe, TurnLossConfig

# The layers of rnnt-tiny, whose weights it begins with: one mixture layer, one that separates, one
# that recognises. Two markers stand behind its 128 tokens.
TINY = TransducerConfig(
    vocab_size=130,
    frontend=FrontendConfig(stack=8),
    encoder=SeparatorConfig(width=192, mixture=1, separation=1, recognition=1, output=128),
    prediction=PredictionConfig(embedding=64, width=128, layers=1, output=128),
    ctc=True,
)

SMALL = TransducerConfig(
    vocab_size=1026,
    frontend=FrontendConfig(stack=3),
    encoder=SeparatorConfig(
        width=512, mixture=1, separation=1, recognition=2, output=320, reduce_after=1
    ),
    prediction=PredictionConfig(embedding=256, width=512, layers=1, output=320),
)

LARGE = TransducerConfig(
    vocab_size=2503,
    frontend=FrontendConfig(stack=3),
    encoder=SeparatorConfig(
        width=1024, mixture=2, separation=2, recognition=3, output=512, reduce_after=1
    ),
    prediction=PredictionConfig(embedding=512, width=1024, layers=2, output=512),
)

# Both penalties stay off until the model recognises something: on from the first step they stop
# convergence (Sklyar et al. 2022). Starts of turns are penalised as ends are.
TURNS = TurnLossConfig(late=3.3, start_of_turn=True, late_after=2_000, activity=0.1)


def _librispeech(name: str, description: str, model: TransducerConfig, tokens: int) -> Recipe:
    mixed = "librispeech:LibriSpeech?turns=1-8&draws=100000"
    return Recipe(
        name=name,
        description=description,
        model=model,
        tokenizer=TokenizerConfig(vocab_size=tokens, markers="turns"),
        data=DataConfig(
            train=mixed,
            train_split="train-clean-100+train-clean-360+train-other-500",
            dev="librispeech:LibriSpeech?turns=1-8&draws=500",
            dev_split="dev-clean",
            batch_seconds=2_400.0,
            buckets=8,
            max_seconds=60.0,
        ),
        augment=AugmentConfig(freq_width=27, time_masks=10),
        loss=LossConfig(
            fastemit=0.01,
            fastemit_after=10_000,
            ctc_weight=0.0,
            turns=replace(TURNS, late_after=20_000),
        ),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=5_000),
        precision="bfloat16",
        steps=100_000,
        eval_every=2_000,
        checkpoint_every=1_000,
    )


PRESETS = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="sts-tiny",
            description="Two talkers at once, with turns: synthetic requests to an assistant.",
            model=TINY,
            tokenizer=TokenizerConfig(vocab_size=128, markers="turns"),
            init_from="rnnt-tiny",
            # People overlap for a tenth of the time: two shares of the draws have more, so that
            # there is enough to learn it from. Rooms are hard for a model of this size.
            data=DataConfig(
                train="assistant?turns=1-4&rooms=0.2&draws=12000"
                " + assistant?turns=2-4&overlap=15&draws=4000"
                " + assistant?turns=2-4&overlap=35&draws=4000",
                dev="assistant?turns=2-4&overlap=20&draws=120",
                batch_seconds=160.0,
                max_padding=0.2,
                max_seconds=24.0,
            ),
            # A little noise everywhere: without, what lies between turns would be digital silence.
            augment=AugmentConfig(
                speed=(0.92, 1.0, 1.08),
                freq_warp=0.03,
                noise_probability=0.3,
                noise_snr_db=(15.0, 40.0),
                freq_masks=1,
            ),
            loss=LossConfig(fastemit=0.01, fastemit_after=1_000, turns=TURNS),
            optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=200),
            steps=6_000,
            eval_every=500,
            eval_utterances=120,
            checkpoint_every=500,
        ),
        _librispeech(
            "sts-small", "Two talkers at once, with turns, for LibriSpeech mixtures.", SMALL, 1024
        ),
        _librispeech(
            "sts-large", "The same in the size for LibriCSS: seven layers of 1024.", LARGE, 2501
        ),
    )
}
