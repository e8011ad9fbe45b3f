"""What a recipe must fulfil before its run begins."""

from ..data.errors import InputError
from ..models.transducer import channels_of
from .recipe import Recipe


def require_consistent(recipe: Recipe) -> None:
    """Raises InputError where the model lacks what its losses are computed from, and for losses and
    ways of adapting that do not go together."""
    loss, model = recipe.loss, recipe.model
    if loss.ctc_weight and not model.ctc:
        raise InputError("the CTC loss needs its head: give --model.ctc, or --loss.ctc-weight 0.")
    if loss.pruned_range and not model.simple:
        raise InputError(
            "the pruned loss needs the simple joiner: give --model.simple, or "
            "--loss.pruned-range 0."
        )
    if loss.pruned_range and model.joint.hat:
        raise InputError(
            "the pruned loss takes no HAT joint: leave out --loss.pruned-range "
            "or --model.joint.hat."
        )
    turns = loss.turns
    if loss.pruned_range and (turns.late or turns.early):
        raise InputError(
            "the pruned loss takes no penalties on turn markers: leave out --loss.pruned-range, or "
            "--loss.turns.late and --loss.turns.early."
        )
    if (turns.late or turns.early) and recipe.tokenizer.markers != "turns":
        raise InputError(
            "--loss.turns.late and --loss.turns.early are of start- and end-of-turn markers: give "
            "--tokenizer.markers turns."
        )
    if turns.activity and channels_of(model) < 2:
        raise InputError(
            "speech activity is of a model with channels: leave out --loss.turns.activity."
        )
    if loss.pruned_range and loss.delay_penalty:
        raise InputError(
            "the pruned loss takes no delay penalty: leave out --loss.pruned-range or "
            "--loss.delay-penalty."
        )
    if loss.pruned_range < 0 or loss.pruned_range == 1:
        raise InputError(
            "--loss.pruned-range is the label positions kept of a frame: at least 2, or 0 for the "
            "exact loss."
        )
    if recipe.adapt.distill and model.joint.durations:
        raise InputError(
            "what a start says is compared cell by cell, without durations: leave out "
            "--adapt.distill, or hold to the start by --adapt.anchor."
        )
    if recipe.adapt.distill_stride < 1:
        raise InputError("--adapt.distill-stride is a number of frames: at least 1.")
    if recipe.adapt.weight < 0.0 or recipe.adapt.distill < 0.0:
        raise InputError("--adapt.weight and --adapt.distill are weights: 0 or more.")
    lora = recipe.adapt.lora
    if lora.rank < 0:
        raise InputError("--adapt.lora.rank is a number of columns: at least 1, or 0 for none.")
    if lora.rank and not recipe.init_from:
        raise InputError(
            "--adapt.lora.rank leaves a model's own weights as they are: name one that has learned "
            "something, by --init-from or as the folder to train."
        )
    if lora.rank and recipe.adapt.anchor != "none":
        raise InputError(
            "an anchor holds weights that are trained, and of adapters none was there before: "
            "leave out --adapt.anchor or --adapt.lora.rank."
        )
