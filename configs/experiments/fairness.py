"""Who is served worst by a recogniser that has heard little of some accents, and what repairs it?

    parley experiment fairness --only "*-s0"     # the main claim's first seed
    parley experiment fairness

Results: docs/results/fairness.md.
"""

from dataclasses import replace

from ...data.loader import DataConfig
from ...train.experiment import Condition, Experiment, Part, Row
from .. import rnnt

STEPS = 2_400
SEEDS = (0, 1, 2)
RARE = "scotland,caribbean"
UNBALANCED = " + ".join(
    (
        f"assistant?speakers=980&utterances=20&accent=!{RARE}",
        f"assistant?speakers=980&utterances=20&accent={RARE}&speaker=train00*",
        f"words?accent=!{RARE}",
        f"words?accent={RARE}&speaker=train000*",
    )
)
"""Of 980 speakers, all 700 of five accents, and of two accents 14 each of 140."""
POPULATION = "assistant?speakers=3000&utterances=8&seed=11"

_BASE = replace(
    rnnt.PRESETS["rnnt-tiny"],
    name="base",
    description="",
    data=DataConfig(train=UNBALANCED, dev="assistant", batch_seconds=120.0),
    steps=STEPS,
    eval_every=STEPS,
    checkpoint_every=400,
    checkpoints_kept=1,
)


def _base(seed: int) -> Row:
    return Row(f"base-s{seed}", "base", replace(_BASE, seed=seed))


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="fairness",
            title="Regions and cohorts that are served badly, and their repair",
            question="",
            parts=(
                Part(
                    title="Systems",
                    rows=tuple(_base(seed) for seed in SEEDS),
                    conditions=(Condition("population", POPULATION, "train"),),
                    baseline="base",
                ),
            ),
        ),
    )
}
