"""Does adversarial reweighting serve the speakers better who are served worst?

    parley experiment verification --only "plain-s0" "pairs-s0"   # the main claim's first seed
    parley experiment verification

Training is unbalanced on purpose: 364 of 451 speakers are men, and two of the seven accents
(Scotland, Caribbean) have 14 speakers each where the others have 84 or 85. The test is balanced:
140 speakers, 20 an accent. All rows are the same but for the adversary; paired seeds begin with the
same weights and see the same batches. The loss is angular prototypical alone, which is what pairs
weigh in.

`pairs` is PW, `similarity` APS, `pseudo` PL; `constant` is the control, PW with all weights equal,
which must do what `plain` does.
Results: docs/results/verification.md.
"""

from dataclasses import replace

from ...train.experiment import Condition, Experiment, Part, Row
from ...train.speakers.recipe import AdversaryConfig, SpeakerLossConfig, SpeakerRecipe
from .. import speakers

STEPS = 500
MAIN_SEEDS = (0, 1, 2)
MORE_SEEDS = (3, 4)

_DRAW = "assistant?speakers=980&utterances=20"
_RARE = "scotland,caribbean"
UNBALANCED = " + ".join(
    f"{_DRAW}&{chosen}"
    for chosen in (
        f"gender=male&accent=!{_RARE}",
        f"gender=male&accent={_RARE}&speaker=train00*",
        f"gender=female&accent=!{_RARE}&speaker=train00*,train01*",
        f"gender=female&accent={_RARE}&speaker=train00*",
    )
)
TEST = " + ".join(["assistant", *(f"assistant?seed={seed}" for seed in (1, 2, 3))])

_PLAIN = replace(
    speakers.PRESETS["speaker-tiny"],
    name="plain",
    description="",
    data=replace(speakers.SPEAKER_TINY.data, train=UNBALANCED),
    loss=SpeakerLossConfig(kind="prototypical"),
    steps=STEPS,
    eval_every=STEPS,
    checkpoint_every=100,
)
ADVERSARIES = {
    "plain": AdversaryConfig(kind="off"),
    "pairs": AdversaryConfig(kind="pairs"),
    "similarity": AdversaryConfig(kind="similarity"),
    "pseudo": AdversaryConfig(kind="pseudo"),
    "constant": AdversaryConfig(kind="constant"),
}


def _recipe(system: str, seed: int) -> SpeakerRecipe:
    return replace(_PLAIN, name=system, adversary=ADVERSARIES[system], seed=seed)


def _rows(systems: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(f"{system}-s{seed}", system, _recipe(system, seed))
        for seed in seeds
        for system in systems
    )


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="verification",
            title="Adversarially reweighted speaker verification",
            question=(
                "Trained on four fifths men and few of two accents, a speaker model serves some "
                "speakers worse. Does an adversary that weighs pairs, and knows no group, make the "
                "equal error rate of the group that is served worst fall, and the gap with it, "
                "without harm to all? Test speakers are none of training's."
            ),
            small=("plain-s0", "pairs-s0"),
            parts=(
                Part(
                    title="Systems",
                    text="`pairs` is PW, `similarity` APS, `pseudo` PL; `constant` weighs all "
                    "pairs alike.",
                    rows=(
                        *_rows(("plain", "pairs"), MAIN_SEEDS),
                        *_rows(("similarity", "pseudo", "constant"), MAIN_SEEDS[:1]),
                        *_rows(("similarity", "pseudo"), MAIN_SEEDS[1:]),
                        *_rows(("plain", "pairs"), MORE_SEEDS),
                    ),
                    conditions=(Condition("clean", TEST),),
                    baseline="plain",
                ),
            ),
        ),
    )
}
