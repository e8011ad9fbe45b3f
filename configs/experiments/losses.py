"""What does pruning the loss cost in word error? The exact transducer loss against the pruned one.

    parley experiment losses                        # on two CPU cores, an hour or two
    parley experiment losses --only "*-s0"

`exact` sums over all alignments. `pruned` keeps eight label positions a frame, which the simple
joiner chooses, and trains that joiner beside it; its two linear heads are in training only. All
else is the same, and paired seeds begin with the same weights.

Tokens are characters: of `words` in wordpieces, one a word, any window holds all, and nothing would
be pruned. There is then one to every second frame of 60 ms, often three in one frame, which is why
the range is eight and not the usual five.

Results: docs/results/losses.md.
"""

from dataclasses import replace

from ...data.tokenizer import TokenizerConfig
from ...train.experiment import Experiment, Part, Row
from ...train.recipe import Recipe
from .. import rnnt
from .encoders import CONDITIONS

STEPS = 1_200
SEEDS = (0, 1, 2)
S_RANGE = 8
OTHER_RANGES = (5, 12)

_EXACT = replace(
    rnnt.PRESETS["lstm-tiny"],
    name="exact",
    description="",
    tokenizer=TokenizerConfig(kind="char"),
    steps=STEPS,
    # Once, at the end: nothing is chosen by it.
    eval_every=STEPS,
    eval_utterances=420,
    checkpoint_every=500,
    checkpoints_kept=1,
)
_PRUNED = replace(
    _EXACT,
    name="pruned",
    model=replace(_EXACT.model, simple=True),
    loss=replace(_EXACT.loss, pruned_range=S_RANGE),
)
SYSTEMS: dict[str, Recipe] = {"exact": _EXACT, "pruned": _PRUNED}


def _of_range(s_range: int) -> Row:
    name = f"range-{s_range}"
    loss = replace(_PRUNED.loss, pruned_range=s_range)
    return Row(name, name, replace(_PRUNED, name=name, loss=loss))


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="losses",
            title="The pruned loss compared with the exact one",
            question=(
                "Does a model that is trained by eight label positions a frame make more errors "
                "than one that is trained by all of them? Tokens are characters; encoder, data, "
                "steps and first weights are the same; test speakers are none of training's."
            ),
            parts=(
                Part(
                    title="Losses",
                    text="Parameters of `pruned` count the simple joiner's heads, which only "
                    "training runs.",
                    rows=tuple(
                        Row(f"{name}-s{seed}", name, replace(system, seed=seed))
                        for seed in SEEDS
                        for name, system in SYSTEMS.items()
                    ),
                    conditions=CONDITIONS,
                    baseline="exact",
                ),
                Part(
                    title="Ranges",
                    text="Other widths of the window, seed 0.",
                    rows=tuple(map(_of_range, OTHER_RANGES)),
                    conditions=CONDITIONS,
                    baseline="exact",
                ),
            ),
        ),
    )
}
