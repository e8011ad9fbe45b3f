"""Which encoder hears best, and what does it cost? Five families at matched tiny size.

    parley experiment encoders                                          # on two CPU cores, hours
    parley experiment encoders --only "*-s0" --max-minutes 60
    parley experiment encoders-digits --digits digits/manifest.jsonl    # real recordings

Data, augmentation, tokeniser, budget, front end, prediction network and joint are the same for all;
the encoder differs, and the peak learning rate, for which every family has the same two tries.
Results: docs/results/encoders.md and docs/results/encoders-digits.md.
"""

from dataclasses import replace
from typing import Any

from ...data.augment import AugmentConfig
from ...data.loader import DataConfig
from ...models.encoders.conv_rnnt import ConvRNNTConfig
from ...models.transducer import TransducerConfig
from ...train.experiment import DIGITS, Condition, Experiment, Part, Row
from ...train.recipe import OptimizerConfig, Recipe
from .. import conformer, contextnet, conv_rnnt, rnnt, transformer

STEPS = 1_200
"""Of a row; a row of the search takes half of them."""
DIGITS_STEPS = 1_000
"""Of half the audio each: more steps of smaller batches get further on the same audio."""
SEEDS = (0, 1, 2)
RATES = (2e-3, 4e-3)
"""Peak learning rates that every family tries."""
PEAK_LR = {"rnnt": 2e-3, "conv-rnnt": 2e-3, "conformer": 2e-3, "contextnet": 2e-3, "tt": 2e-3}
"""Set by hand from the search: the rate of the lowest word error on the development set; where both
are level (rnnt, tt), the lower one."""


def _model(preset: Recipe) -> TransducerConfig:
    """Without dropout: the families' presets drop different things at different rates."""
    encoder: Any = preset.model.encoder  # every family's config has `dropout`
    return replace(preset.model, encoder=replace(encoder, dropout=0.0))


MODELS = {
    "rnnt": _model(rnnt.PRESETS["lstm-tiny"]),
    "conv-rnnt": _model(conv_rnnt.PRESETS["conv-rnnt-tiny"]),
    "conformer": _model(conformer.PRESETS["conformer-tiny"]),
    "contextnet": _model(contextnet.PRESETS["contextnet-tiny"]),
    "tt": _model(transformer.PRESETS["tt-tiny"]),
}

# More padding than usual: fewer shapes, which a CPU compiles for minutes where models are deep.
_BASE = replace(
    rnnt.TINY_WORDS,
    name="encoders",
    description="",
    # Words in random order: what is recognised was heard, not guessed by the prediction network.
    data=DataConfig(train="words", dev="words", batch_seconds=80.0, max_padding=0.25),
    augment=AugmentConfig(noise_probability=0.3, freq_masks=1),
    steps=STEPS,
    # Once, at the end: nothing is chosen by it but the learning rate.
    eval_every=STEPS,
    eval_utterances=420,
    checkpoint_every=500,
    checkpoints_kept=1,
)


def recipe(family: str, *, base: Recipe = _BASE, **changes: object) -> Recipe:
    """The recipe of a family, seed 0 unless `changes` say otherwise."""
    optimizer = OptimizerConfig(peak_lr=PEAK_LR[family], warmup_steps=200)
    return replace(
        base, **{"name": family, "model": MODELS[family], "optimizer": optimizer, **changes}
    )


def paired(base: Recipe) -> tuple[Row, ...]:
    """Every family with the first seed, then every family with the second ..."""
    return tuple(
        Row(f"{family}-s{seed}", family, recipe(family, base=base, seed=seed))
        for seed in SEEDS
        for family in MODELS
    )


def _search() -> tuple[Row, ...]:
    rows = []
    for family in MODELS:
        for rate in RATES:
            optimizer = replace(recipe(family).optimizer, peak_lr=rate)
            short = recipe(family, optimizer=optimizer, steps=STEPS // 2)
            rows.append(Row(f"rate-{family}-{rate:g}", f"{family} at {rate:g}", short))
    return tuple(rows)


def _ablations() -> tuple[Row, ...]:
    """ConvRNN-T with one thing changed; the LSTMs stay as they are."""
    model = MODELS["conv-rnnt"]
    encoder = model.encoder
    assert isinstance(encoder, ConvRNNTConfig)
    variants = {
        "no-shortcut": replace(encoder, shortcut=False),
        "no-convolution": replace(encoder, local="off", global_blocks=0),
        "local-only": replace(encoder, global_blocks=0),
        "global-only": replace(encoder, local="off"),
        "no-squeeze": replace(encoder, squeeze="off"),
        "squeeze-ema": replace(encoder, squeeze="ema"),
        "squeeze-window": replace(encoder, squeeze="window"),
        "no-dilation": replace(encoder, dilated=False),
        "no-residual": replace(encoder, residual=False),
    }
    return tuple(
        Row(name, name, recipe("conv-rnnt", model=replace(model, encoder=changed)))
        for name, changed in variants.items()
    )


def _smaller() -> tuple[Row, ...]:
    """The families once more with what brings all of them further on as much audio."""
    data = replace(
        _BASE.data,
        train="words + words?join=2-4&draws=3000",
        batch_seconds=_BASE.data.batch_seconds / 2,
    )
    return tuple(
        Row(
            f"smaller-{family}",
            f"{family}, smaller batches",
            recipe(family, data=data, steps=2 * STEPS, eval_every=2 * STEPS),
        )
        for family in MODELS
    )


CONDITIONS = (
    Condition("clean", "words"),
    Condition("noise at 10 dB", "words?noise=10"),
    Condition("long: six to eight utterances joined", "words?join=6-8&draws=210"),
)
_DIGITS = replace(
    _BASE,
    data=DataConfig(
        train=f"{DIGITS}?take=10-44&join=1-7&draws=4000",
        dev=f"{DIGITS}?take=45-49&join=1-7&draws=200",
        batch_seconds=40.0,
        max_padding=0.25,
    ),
    augment=AugmentConfig(speed=(0.8, 0.9, 1.0, 1.1, 1.2), noise_probability=0.3, freq_masks=1),
    steps=DIGITS_STEPS,
    eval_every=DIGITS_STEPS,
    eval_utterances=200,
)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="encoders",
            title="Encoders compared",
            question=(
                "At about a million parameters and with the same data and steps: does ConvRNN-T "
                "make fewer errors than the LSTM transducer, the causal Conformer, the causal "
                "ContextNet and the Transformer-Transducer, and at less computation than the "
                "Conformer? Which of its parts does it owe that to? Test speakers "
                "are none of training's."
            ),
            small=tuple(f"{family}-s0" for family in MODELS),
            parts=(
                Part(
                    title="Families",
                    rows=paired(_BASE),
                    conditions=CONDITIONS,
                    baseline="rnnt",
                    plot="model",
                ),
                Part(
                    title="Ablations of ConvRNN-T",
                    text="One thing changed, seed 0; the LSTMs are as wide. `no-shortcut` is the "
                    "encoder as the paper has it; `no-convolution` keeps the shortcut and, beside "
                    "it, a projection of the features.",
                    rows=_ablations(),
                    conditions=CONDITIONS,
                    baseline="conv-rnnt",
                ),
                Part(
                    title="Smaller batches",
                    text="Half the audio a step and twice the steps, so as much audio; a fifth of "
                    "the training utterances are two to four joined. Seed 0.",
                    rows=_smaller(),
                    conditions=CONDITIONS,
                    baseline="rnnt, smaller batches",
                ),
                Part(
                    title="Learning rates",
                    text="The same two tries for every family, half of the steps, seed 0; "
                    "scored on the development set.",
                    rows=_search(),
                    conditions=(Condition("development set", "words", "dev"),),
                    first=True,
                ),
            ),
        ),
        Experiment(
            name="encoders-digits",
            title="Encoders compared on real digits",
            question=(
                "Does the order of the encoders hold for recordings of people? Strings of 1 to 7 "
                "digits from the Free Spoken Digit Dataset, four men: takes 10 to 44 train, 5 to 9 "
                "test. With so few speakers an interval over speakers is too narrow."
            ),
            parts=(
                Part(
                    title="Families",
                    rows=paired(_DIGITS),
                    conditions=(
                        Condition("takes 5 to 9", f"{DIGITS}?take=5-9&join=1-7&draws=400"),
                        Condition(
                            "takes 5 to 9 with noise at 10 dB",
                            f"{DIGITS}?take=5-9&join=1-7&draws=400&noise=10",
                        ),
                    ),
                    baseline="rnnt",
                    plot="model",
                ),
            ),
        ),
    )
}
