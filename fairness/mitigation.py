"""Ways to make a trained model serve speakers better whom it serves badly, as recipes.

A method is a recipe of the one training loop that starts from the model: what differs between
methods are a few fields, all of which can be changed. All take the same short run at a small rate
without weight decay, so that they differ in the method alone.

Sources: Trinh et al. 2022, arXiv 2207.07850 (elastic weight consolidation and what it is compared
with); Dheram et al. 2022, arXiv 2207.11345 (oversampling, the cohort as an input).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..data.errors import InputError
from ..models.cohorts import CohortConfig
from ..train.recipe import AdaptConfig, OptimizerConfig, Recipe

STEPS = 300
OPTIMIZER = OptimizerConfig(
    peak_lr=1e-4,
    warmup_steps=20,
    weight_decay=0.0,
    # An average over hundreds of steps would be half the start, and what was asked for is the end.
    ema=0.0,
)


@dataclass(frozen=True)
class Method:
    """Attributes:
    summary: what it does, for people.
    change: the recipe of a plain fine-tuning run, made this method's.
    adapts: whether it is trained on the badly served speakers alone, who must then be named; else
      on everybody.
    """

    summary: str
    change: Callable[[Recipe], Recipe]
    adapts: bool = True


def mitigation(recipe: Recipe, method: str, start: str) -> Recipe:
    """The recipe that repairs a model.

    Args:
      recipe: by which the model was trained; its data, augmentation and losses are kept.
      method: of `METHODS`.
      start: zoo name or folder of the model.

    Raises:
      InputError: there is no such method.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}: there are {', '.join(METHODS)}.")
    chosen = METHODS[method]
    plain = replace(
        recipe,
        name=f"{recipe.name}-{method}",
        description=f"{recipe.name}, {chosen.summary}.",
        init_from=start,
        optimizer=replace(OPTIMIZER, accumulate=recipe.optimizer.accumulate),
        loss=_from_the_first_step(recipe),
        steps=STEPS,
        eval_every=STEPS,
        checkpoint_every=100,
        # Few recordings fill few shapes, and compiling another one takes as long as many steps.
        data=replace(recipe.data, max_padding=max(recipe.data.max_padding, 0.25)),
        # Few speakers give statistics of their own, which nothing anchors.
        adapt=AdaptConfig(fixed_norms=True),
    )
    return chosen.change(plain)


def _from_the_first_step(recipe: Recipe):
    """The losses, without the steps that a model needs before it has learned anything."""
    turns = replace(recipe.loss.turns, late_after=0, activity_after=0)
    return replace(recipe.loss, fastemit_after=0, pruned_warmup=0, turns=turns)


def _adapting(**fields) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, adapt=replace(recipe.adapt, **fields))


def _replaying(recipe: Recipe) -> Recipe:
    return replace(recipe, data=replace(recipe.data, replay=recipe.data.train))


def _oversampling(recipe: Recipe) -> Recipe:
    return replace(recipe, data=replace(recipe.data, oversample="cohort_group=bottom:4"))


def _told_cohorts(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, cohort=CohortConfig("onehot")))


METHODS = {
    "finetune": Method("fine-tuned", lambda recipe: recipe),
    "ewc": Method("fine-tuned with elastic weight consolidation", _adapting(anchor="ewc")),
    "l2": Method("fine-tuned with L2 to the start", _adapting(anchor="l2")),
    "freeze-encoder": Method("fine-tuned but for the encoder", _adapting(parts="prediction+joint")),
    "freeze-prediction": Method(
        "fine-tuned but for the prediction network", _adapting(parts="encoder+joint")
    ),
    "replay": Method("fine-tuned with half of the old data mixed in", _replaying),
    "distill": Method("fine-tuned beside what it said before", _adapting(distill=1.0)),
    "oversample": Method("trained on, the worst cohorts oversampled", _oversampling, adapts=False),
    "cohort-input": Method("trained on, told the cohort", _told_cohorts, adapts=False),
}
