"""LSTM RNN-T: the plain streaming transducer, and the baseline of everything else.

    parley train rnnt-tiny-words     # `words`: 5 minutes on two CPU cores
    parley train rnnt-tiny           # `assistant` and `words`: about an hour on two CPU cores
    parley train rnnt-digits-tiny \\
        --data.train "digits/manifest.jsonl?take=10-44&join=1-7&draws=4000" \\
        --data.dev "digits/manifest.jsonl?take=45-49&join=1-7&draws=200"
    parley train rnnt-30m --data.train-split train-clean-100 ...    # accelerators

Results: docs/results/foundation.md, and the models' cards.
"""

import dataclasses

from ..data.augment import AugmentConfig
from ..data.loader import DataConfig
from ..data.tokenizer import TokenizerConfig
from ..models.encoders.lstm import LSTMEncoderConfig
from ..models.frontend import FrontendConfig
from ..models.transducer import PredictionConfig, TransducerConfig
from ..train.recipe import LossConfig, OptimizerConfig, Recipe

# A layer of LayerNorm behind each LSTM is what makes a stack of them learn from the first hundred
# steps on: without it the same recipe stays at chance for thousands.
TINY = TransducerConfig(
    vocab_size=128,
    # Eight frames at once, 80 ms: on a CPU the recurrence is the cost, and half the steps of 40 ms
    # learn as well in the same number of updates.
    frontend=FrontendConfig(stack=8),
    encoder=LSTMEncoderConfig(width=192, layers=3, output=128, norm=True),
    # A narrow joint over a small vocabulary: every cell of frames x tokens pays for it.
    prediction=PredictionConfig(embedding=64, width=128, layers=1, output=128),
    ctc=True,
)

LARGE = TransducerConfig(
    vocab_size=2501,
    frontend=FrontendConfig(stack=3),
    encoder=LSTMEncoderConfig(width=640, layers=7, output=512, norm=True),
    prediction=PredictionConfig(embedding=512, width=640, layers=2, output=512),
)

TINY_WORDS = Recipe(
    name="rnnt-tiny-words",
    description="LSTM transducer for the 60 words of the embedded corpus: the demonstration.",
    model=TINY,
    tokenizer=TokenizerConfig(vocab_size=128),
    data=DataConfig(train="words", dev="words", batch_seconds=80.0),
    augment=AugmentConfig(noise_probability=0.2, freq_masks=1),
    optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=200),
    steps=2_900,
    eval_every=500,
)

LIBRISPEECH = Recipe(
    name="rnnt-30m",
    description="LSTM RNN-T of the usual size: seven layers of 640, for LibriSpeech.",
    model=LARGE,
    tokenizer=TokenizerConfig(vocab_size=2501),
    data=DataConfig(
        train="librispeech:LibriSpeech",
        train_split="train-clean-100+train-clean-360+train-other-500",
        dev="librispeech:LibriSpeech",
        dev_split="dev-clean",
        batch_seconds=2_400.0,
        buckets=8,
    ),
    augment=AugmentConfig(freq_width=27, time_masks=10),
    loss=LossConfig(ctc_weight=0.0),
    optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=5_000),
    precision="bfloat16",
    steps=80_000,
    eval_every=2_000,
    checkpoint_every=1_000,
)

# Of the models of 120 M: wide networks want smaller steps. Not tuned, for want of hardware.
PODS = OptimizerConfig(peak_lr=5e-4, warmup_steps=10_000)

PRESETS = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="rnnt-tiny",
            description="LSTM transducer for requests to a voice assistant, in synthetic English.",
            model=TINY,
            tokenizer=TokenizerConfig(vocab_size=128),
            # Three times the draw's usual utterances: with fewer, the prediction network learns
            # the training sentences by heart.
            data=DataConfig(
                train="assistant?utterances=300 + words", dev="assistant", batch_seconds=120.0
            ),
            # Wider ranges of speed and formants stand in for speakers beyond the draw's 200.
            augment=AugmentConfig(
                speed=(0.85, 0.92, 1.0, 1.08, 1.17),
                freq_warp=0.05,
                noise_probability=0.25,
                noise_snr_db=(3.0, 30.0),
                freq_masks=1,
            ),
            optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=300, ema=0.999),
            steps=12_000,
            eval_every=1_000,
            eval_utterances=420,
            checkpoint_every=1_000,
        ),
        TINY_WORDS,
        dataclasses.replace(
            TINY_WORDS,
            name="lstm-tiny",
            description="LSTM transducer at 60 ms a frame: what the other families are held to.",
            model=dataclasses.replace(
                TINY,
                frontend=FrontendConfig(stack=3),
                encoder=dataclasses.replace(TINY.encoder, reduce_after=1),
            ),
        ),
        dataclasses.replace(
            TINY_WORDS,
            name="rnnt-digits-tiny",
            description="LSTM transducer for strings of spoken digits, trained on real recordings.",
            init_from="rnnt-tiny",
            data=DataConfig(
                train="digits/manifest.jsonl?take=10-44&join=1-7&draws=4000",
                dev="digits/manifest.jsonl?take=45-49&join=1-7&draws=200",
                batch_seconds=80.0,
            ),
            augment=AugmentConfig(
                speed=(0.8, 0.9, 1.0, 1.1, 1.2), freq_warp=0.1, noise_probability=0.3, freq_masks=1
            ),
            optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=100),
            steps=1_500,
        ),
        LIBRISPEECH,
    )
}
