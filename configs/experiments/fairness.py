"""Who is served worst by a recogniser that has heard little of some accents, and what repairs it?

    parley experiment fairness --only "*-s0"     # the main claims' first seed
    parley experiment fairness

A base is trained on five accents and a tenth as much of two others. Three thousand other speakers
tell how it serves them: 1,000 to find regions and cohorts on, 1,000 to say which of these are
worst, 1,000 to report. The worst regions' speakers of the training draw, most of whom the base has
not heard, are what it is adapted on; it and what becomes of it are compared on the last thousand.
Results: docs/results/fairness.md.
"""

from dataclasses import replace
from typing import Any

from ...data.loader import DataConfig
from ...train.experiment import (
    COHORTS,
    FROM_ROW,
    SPLITS,
    CohortsOf,
    Condition,
    Experiment,
    Part,
    Row,
)
from ...train.recipe import AdaptConfig, FisherConfig, OptimizerConfig
from .. import rnnt

SEEDS = (0, 1, 2)
STEPS = 2_400
ADAPT_STEPS = 240
"""About three epochs of the worst regions."""
ADAPT_LR = 3e-4
EWC = 0.3
"""lambda, and that of L2 to the start."""
RARE = "scotland,caribbean"
_DRAW = "assistant?speakers=980&utterances=20"
UNBALANCED = " + ".join(
    (
        f"{_DRAW}&accent=!{RARE}",
        f"{_DRAW}&accent={RARE}&speaker=train00*",
        f"words?accent=!{RARE}",
        f"words?accent={RARE}&speaker=train000*",
    )
)
"""Of 980 speakers, all 700 of five accents, and of two accents 14 each of 140."""
POPULATION = "assistant?speakers=3000&utterances=8&seed=11"
WORST = f"{_DRAW}&cohorts={COHORTS}&cohort_group=bottom"

DISCOVERY, RANKING, REPORT = (
    Condition(name, f"{POPULATION}&speaker=train{i}*", "train") for i, name in enumerate(SPLITS)
)
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
_ON = replace(
    _BASE,
    data=replace(_BASE.data, train=WORST),
    optimizer=OptimizerConfig(peak_lr=ADAPT_LR, warmup_steps=20, weight_decay=0.0, ema=0.0),
    steps=ADAPT_STEPS,
    eval_every=ADAPT_STEPS,
    checkpoint_every=ADAPT_STEPS,
)
_FISHER = FisherConfig(data=UNBALANCED, utterances=2_000)
METHODS: dict[str, dict[str, Any]] = {
    "fine-tuning": {},
    "ewc": {"anchor": "ewc", "weight": EWC, "fisher": _FISHER},
    "l2": {"anchor": "l2", "weight": EWC},
}


def _base(seed: int) -> Row:
    finds = ("regions", "clusters", "units", "accent")
    return Row(f"base-s{seed}", "base", replace(_BASE, seed=seed), finds=finds)


def _adapted(method: str, seed: int) -> Row:
    """The base of this seed, adapted on the regions that it serves worst."""
    base, adapt = f"base-s{seed}", AdaptConfig(**METHODS[method])
    recipe = replace(_ON, name=method, seed=seed, adapt=adapt, init_from=f"{FROM_ROW}{base}")
    cohorts = CohortsOf(base, "regions", _DRAW)
    return Row(f"{method}-s{seed}", method, recipe, cohorts=cohorts)


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="fairness",
            title="Regions and cohorts that are served badly, and their repair",
            question=(
                "A recogniser has heard little of some accents. Which regions and cohorts does it "
                "serve worst, on speakers who took no part in finding them? Does elastic weight "
                "consolidation repair the worst regions without harm to the others, better than "
                "plain fine-tuning, and better than holding all weights alike?"
            ),
            small=("base-s0", "fine-tuning-s0", "ewc-s0"),
            parts=(
                Part(
                    title="The base",
                    rows=tuple(_base(seed) for seed in SEEDS),
                    conditions=(DISCOVERY, RANKING, REPORT),
                ),
                Part(
                    title="Repair",
                    rows=tuple(_adapted(method, seed) for seed in SEEDS for method in METHODS),
                    conditions=(REPORT,),
                    baseline="base",
                ),
            ),
        ),
    )
}
