"""Do turn tokens, FastEmit, speech activity and a latency penalty do what the paper says of them?

    parley experiment sts                       # two CPU cores: half an hour to an hour a row
    parley experiment sts --only "*-s0"

The ablation of Sklyar et al. 2022 (arXiv 2205.05199), in their order, on conversations of the
embedded corpus; and beside it what a single channel makes of overlapped speech, what no token at
all costs, and the choices that are ours: separation layers with weights of their own, and the other
rule for the channel of a turn.

All rows begin with rnnt-tiny's weights, see the same conversations and are scored on fixed ones of
unseen speakers, 200 for each share of overlap. Rows with the same seed have the same order of data.

Results: docs/results/sts.md.
"""

from dataclasses import replace

from ...train.experiment import Condition, Experiment, Part, Row
from ...train.recipe import Recipe, TurnLossConfig
from .. import sts

STEPS = 2_400
SEEDS = (0, 1, 2)
OVERLAPS = (0, 10, 20, 30, 40)
FASTEMIT_AFTER, LATE_AFTER = 600, 1_200

CONDITIONS = tuple(
    Condition(f"{share} % overlap", f"assistant?turns=2-4&overlap={share}&draws=200&seed=11")
    for share in OVERLAPS
)

_PRESET = sts.PRESETS["sts-tiny"]
_TURNS = replace(
    _PRESET,
    name="turns",
    description="",
    loss=replace(_PRESET.loss, fastemit=0.0, fastemit_after=0, turns=TurnLossConfig()),
    steps=STEPS,
    # Once, at the end: nothing is chosen by it.
    eval_every=STEPS,
    checkpoint_every=400,
    checkpoints_kept=1,
)
_FASTEMIT = replace(_TURNS, loss=replace(_TURNS.loss, fastemit=0.01, fastemit_after=FASTEMIT_AFTER))
_ACTIVITY = replace(
    _FASTEMIT, loss=replace(_FASTEMIT.loss, turns=replace(sts.TURNS, late=0.0, late_after=0))
)
_PENALTY = replace(
    _ACTIVITY, loss=replace(_ACTIVITY.loss, turns=replace(sts.TURNS, late_after=LATE_AFTER))
)


def _with(recipe: Recipe, **encoder: object) -> Recipe:
    changed = replace(recipe.model.encoder, **encoder)  # pyright: ignore[reportArgumentType]
    return replace(recipe, model=replace(recipe.model, encoder=changed))


def _marked(recipe: Recipe, markers: str) -> Recipe:
    return replace(recipe, tokenizer=replace(recipe.tokenizer, markers=markers))


ABLATION: dict[str, Recipe] = {
    "separator": _marked(_TURNS, "separator"),
    "turns": _TURNS,
    "+ FastEmit": _FASTEMIT,
    "+ activity": _ACTIVITY,
    "+ penalty": _PENALTY,
}
OTHERS: dict[str, Recipe] = {
    "one channel": _marked(_with(_TURNS, channels=1), "none"),
    "no token": _marked(_TURNS, "none"),
    "untied": _with(_PENALTY, tied=False),
    "stay unless overlap": replace(
        _PENALTY, data=replace(_PENALTY.data, channel_rule="stay_unless_overlap")
    ),
}
"""With one seed."""


def _row(group: str, recipe: Recipe, seed: int) -> Row:
    slug = group.removeprefix("+ ").lower().replace(" ", "-")
    return Row(f"{slug}-s{seed}", group, replace(recipe, name=slug, seed=seed))


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="sts",
            title="The separator-transducer-segmenter, part by part",
            question=(
                "Two talkers, at most, speak at once. Do tokens at the start and the end of turns "
                "leave recognition as good and count turns better, do FastEmit and speech activity "
                "help both, and does a penalty on late ends make them early? Word errors are "
                "ORC-WER; intervals are over recordings."
            ),
            small=("separator-s0", "penalty-s0"),
            parts=(
                Part(
                    title="Ablation",
                    text="In the paper's order; each line adds to the one above it.",
                    rows=tuple(
                        _row(group, recipe, seed)
                        for seed in SEEDS
                        for group, recipe in ABLATION.items()
                    ),
                    conditions=CONDITIONS,
                    baseline="separator",
                ),
                Part(
                    title="Other systems",
                    text="A single channel, no token, separation layers of their own for each "
                    "channel, and the other rule of channels. Seed 0.",
                    rows=tuple(_row(group, recipe, 0) for group, recipe in OTHERS.items()),
                    conditions=CONDITIONS,
                    baseline="+ penalty",
                ),
            ),
        ),
    )
}
