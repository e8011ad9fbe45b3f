"""A recipe of a speaker model: everything that decides what its training does.

What a run is, it shares with the recogniser's (`train.recipe.RunRecipe`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ...data.augment import AugmentConfig
from ...data.fields import build
from ...data.speaker_batches import SpeakerDataConfig
from ...models.speakers.network import SpeakerConfig
from ..recipe import Recipe, RunRecipe, recipe_from_dict

TASK = "speaker-verification"


@dataclass(frozen=True)
class SpeakerLossConfig:
    """What pulls a speaker's recordings together; formulas in `train.losses.speakers`."""

    kind: Literal["prototypical", "aam", "both"] = "prototypical"
    """both: the sum of the two."""
    scale: float = 10.0
    """w of the angular prototypical loss at the beginning; it is learned, as is b."""
    offset: float = -5.0
    margin: float = 0.2
    """m of AAM-softmax, radians."""
    aam_scale: float = 30.0


@dataclass(frozen=True)
class AdversaryConfig:
    """Adversarial reweighting: who weighs the batch, and by what (`train.speakers.reweighting`)."""

    kind: Literal["off", "pairs", "similarity", "pseudo", "constant"] = "off"
    """pairs: PW, a weight for each pair, the sum of its two samples'; similarity: APS; pseudo: PL;
    constant: the control, PW with weights that are all equal."""
    hidden: int = 32
    """Width of the adversary's one hidden layer."""
    peak_lr: float = 1e-3
    """Of the adversary, constant."""
    warmup: float = 0.2
    """Share of the steps, at the beginning, in which all weights are 1."""
    bound: float = 2.0
    """Logits lie within plus and minus this: 2 lets no sample weigh over 7.4 times another."""
    regions: int = 16
    """k-means clusters of the embedding space."""
    refresh_steps: int = 0
    """Steps after which the clusters are found anew; 0: an epoch."""
    refresh_recordings: int = 2
    """Recordings of each speaker that clusters are found from."""


@dataclass(frozen=True)
class SpeakerRecipe(RunRecipe):
    name: str
    model: SpeakerConfig = field(default_factory=SpeakerConfig)
    task: Literal["speaker-verification"] = TASK
    description: str = ""
    data: SpeakerDataConfig = field(default_factory=SpeakerDataConfig)
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(speed=(1.0,), freq_masks=0, time_masks=0)
    )
    loss: SpeakerLossConfig = field(default_factory=SpeakerLossConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    init_from: str = ""
    """Zoo name or model folder whose weights and feature statistics start the run."""
    eval_utterances: int = 420


def speaker_recipe_from_dict(values: Mapping[str, Any]) -> SpeakerRecipe:
    """The recipe that `recipe_to_dict` wrote. Raises InputError as `recipe_from_dict`."""
    return build(SpeakerRecipe, values, "recipe")


AnyRecipe: TypeAlias = Recipe | SpeakerRecipe


def any_recipe_from_dict(values: Mapping[str, Any]) -> AnyRecipe:
    """The recipe, of whichever task. Raises InputError as `recipe_from_dict`."""
    kind = speaker_recipe_from_dict if is_speaker_recipe(values) else recipe_from_dict
    return kind(values)


def is_speaker_recipe(values: Any) -> bool:
    """Whether these JSON values are a speaker model's recipe."""
    return isinstance(values, Mapping) and values.get("task") == TASK
