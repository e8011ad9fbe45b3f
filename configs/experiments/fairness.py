"""Who is served worst by a recogniser that has heard little of some accents, and what repairs it?

    parley experiment fairness --only "*-s0"     # the main claims' first seed
    parley experiment fairness

A base is trained on five accents and a tenth as much of two others. Three thousand other speakers
tell how it serves them: 1,000 to find regions and cohorts on, 1,000 to say which of these are
worst, 1,000 to report. The worst regions' speakers of the training draw, most of whom the base has
not heard, are what it is adapted on; it and what becomes of it are compared on the last thousand.
Where no new speech is at hand, the base is trained on with what it had: as it was, the worst
regions more often, told to which group a speaker belongs, or both.
Results: docs/results/fairness.md.
"""

from dataclasses import replace
from typing import Any

from ...data.loader import DataConfig
from ...models.cohorts import CohortConfig
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
from ...train.recipe import AdaptConfig, FisherConfig, OptimizerConfig, Recipe
from .. import rnnt

SEEDS = (0, 1, 2)
STEPS = 2_400
ADAPT_STEPS = 240
"""About three epochs of the worst regions."""
ONWARD_STEPS = 480
ADAPT_LR = 3e-4
EWC = 0.3
"""lambda, and that of L2 to the start."""
RARE = "scotland,caribbean"
_DRAW = "assistant?speakers=980&utterances=20"


def _unbalanced(labels: str = "") -> str:
    return " + ".join(
        (
            f"{_DRAW}&accent=!{RARE}{labels}",
            f"{_DRAW}&accent={RARE}&speaker=train00*{labels}",
            f"words?accent=!{RARE}",
            f"words?accent={RARE}&speaker=train000*",
        )
    )


UNBALANCED = _unbalanced()
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


OTHERS: dict[str, dict[str, Any]] = {
    "encoder and joint alone": {"parts": "encoder+joint"},
    "prediction and joint alone": {"parts": "prediction+joint"},
    "distillation": {"distill": 1.0},
}
"""More of what EWC is compared with, one seed each; replay and all data together beside them."""
_HEARD = _unbalanced(f"&cohorts={COHORTS}")
_ONWARD = replace(
    _ON,
    data=replace(_BASE.data, train=_HEARD),
    steps=ONWARD_STEPS,
    eval_every=ONWARD_STEPS,
    checkpoint_every=ONWARD_STEPS,
)
_OFTEN = "cohort_group=bottom:4"
_TOLD = replace(_BASE.model, cohort=CohortConfig("onehot"))
ONWARD: dict[str, Recipe] = {
    "as it was": _ONWARD,
    "oversampled": replace(_ONWARD, data=replace(_ONWARD.data, oversample=_OFTEN)),
    "told": replace(_ONWARD, model=_TOLD),
    "oversampled and told": replace(
        _ONWARD, model=_TOLD, data=replace(_ONWARD.data, oversample=_OFTEN)
    ),
}
_LABELLED = replace(REPORT, data=f"{REPORT.data}&cohorts={COHORTS}")


def _base(seed: int) -> Row:
    finds = ("regions", "clusters", "units", "accent")
    return Row(f"base-s{seed}", "base", replace(_BASE, seed=seed), finds=finds)


def _begun(method: str, seed: int, recipe: Recipe, speech: str = _DRAW) -> Row:
    """The base of this seed, trained on."""
    base = f"base-s{seed}"
    name = f"{method.replace(' ', '-')}-s{seed}"
    recipe = replace(recipe, name=method, seed=seed, init_from=f"{FROM_ROW}{base}")
    return Row(name, method, recipe, cohorts=CohortsOf(base, "regions", speech))


def _adapted(method: str, seed: int) -> Row:
    """On the regions that the base serves worst."""
    fields = {**METHODS, **OTHERS}[method]
    return _begun(method, seed, replace(_ON, adapt=AdaptConfig(**fields)))


def _with_old(method: str, seed: int) -> Row:
    """On the worst regions and what the base had heard: half of it each, or all of both."""
    together = {
        "replay": replace(_ON.data, replay=UNBALANCED),
        "all data together": replace(_ON.data, train=f"{UNBALANCED} + {WORST}"),
    }
    return _begun(method, seed, replace(_ON, data=together[method]))


def _onward(method: str, seed: int) -> Row:
    """With what the base had heard; the report's speakers are assigned for those that are told."""
    return _begun(method, seed, ONWARD[method], f"{_DRAW} + {REPORT.data}")


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
                Part(
                    title="Other ways to repair",
                    text="On the same speech and for as many steps, with one seed.",
                    rows=(
                        *(_adapted(method, 0) for method in OTHERS),
                        *(_with_old(method, 0) for method in ("replay", "all data together")),
                    ),
                    conditions=(REPORT,),
                    baseline="base",
                ),
                Part(
                    title="Without new speech",
                    text=(
                        "Trained on for twice as many steps with what the base had heard: worst "
                        "regions four times as often, or told whether a speaker's region is at the "
                        "bottom, in the middle or at the top. Against the base trained on as it "
                        "was. A gain that is still there when speakers exchange what is told of "
                        "them was not the cohort's."
                    ),
                    rows=tuple(_onward(method, seed) for seed in SEEDS for method in ONWARD),
                    conditions=(
                        _LABELLED,
                        replace(_LABELLED, name="told another's", told="shuffled"),
                        replace(_LABELLED, name="told nothing", told="unknown"),
                    ),
                    baseline="as it was",
                ),
            ),
        ),
    )
}
