"""A recipe: everything that decides what a training run does, in frozen dataclasses.

A preset is a `Recipe` value in `configs/`; the command line overrides any field by its path
(`--optimizer.peak-lr 3e-4`). A run writes its resolved recipe beside its checkpoints, and
`recipe_from_dict(recipe_to_dict(r)) == r`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..data.augment import AugmentConfig
from ..data.fields import build
from ..data.loader import DataConfig
from ..data.tokenizer import TokenizerConfig
from ..models.remat import Policy
from ..models.transducer import TransducerConfig

LATER = {"later": True}
"""Metadata of a field that recipes have gained since rows of experiments were run: while it has its
default, it does not tell a recipe from those (`identity`)."""


@dataclass(frozen=True)
class ComputeConfig:
    """Of an amortized encoder: what its computation costs the loss (`train.losses.compute`)."""

    objective: Literal["off", "budget", "target", "linear"] = "off"
    """budget and target aim at `ratio`, linear pays `price`; off: gates cost nothing."""
    ratio: float = 0.4
    """R*, the share of the dense encoder's multiply-adds to spend."""
    price: float = 1.0
    """lambda of linear and target, in nats of an utterance's loss."""
    least: float = 0.2
    """Share of frames that every part of every block is to be used for, at least."""
    dense: float = 0.0
    """Share of the steps, at the beginning, in which all gates are open."""
    ramp: float = 0.5
    """Share of the steps, after those, over which ratio and price come in."""
    temperature: tuple[float, float] = (2.0, 1.0)
    """Of the gates, at the beginning and after six tenths of the steps."""
    hard: float = 0.1
    """Share of the steps, at the end, in which gates are drawn without noise."""


@dataclass(frozen=True)
class TurnLossConfig:
    """Of models with markers around turns (`train.losses.turns`)."""

    late: float = 0.0
    """Nats a second by which an end-of-turn marker loses that comes later than `buffer`; the
    paper's 0.1 for 30 ms is 3.3."""
    buffer: float = 0.2
    """Seconds after the turn's end in which the marker costs nothing."""
    cap: float = 5.0
    """Nats, the most that a late marker loses."""
    early: float = 0.0
    """Nats a second by which a marker loses that comes before the turn has ended, or begun."""
    start_of_turn: bool = False
    """Penalise start-of-turn markers as well, by the same."""
    late_after: int = 0
    """Steps without these penalties: before a model recognises something they keep it from
    learning."""
    activity: float = 0.0
    """Weight of the speech activity's cross entropy, summed over frames as the transducer's loss
    is; 0.1 makes it about a tenth of the loss in the beginning."""
    activity_after: int = 0
    """Steps without it."""


@dataclass(frozen=True)
class LossConfig:
    fastemit: float = 0.005
    """FastEmit's lambda (Yu et al. 2020): the gradient of label arcs is scaled by 1 + lambda."""
    fastemit_after: int = 0
    """Steps without FastEmit."""
    delay_penalty: float = 0.0
    """Nats a frame by which late labels lose against early ones (Kang et al. 2022); not with the
    pruned loss. Before a model has learned it keeps it from learning: go on from another one."""
    sigma: float = 0.0
    """Of a joint with durations: nats taken off every token, so that few long steps are worth more
    (Xu et al. 2023, 0.05). FastEmit and the delay penalty do not touch such a joint."""
    ctc_weight: float = 0.3
    """Weight of the auxiliary CTC loss on the encoder's output; 0 leaves the head out."""
    pruned_range: int = 0
    """Label positions a frame of the pruned loss, which needs the model's simple joiner; 0 is the
    exact loss."""
    simple_weight: float = 0.5
    """Weight of the simple joiner's loss beside the pruned one."""
    pruned_warmup: int = 2_000
    """Steps, at most a quarter of all, in which the weights of simple and pruned loss go from 1 and
    0.1 to `simple_weight` and 1: windows mean nothing before the simple joiner has learned."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    turns: TurnLossConfig = field(default_factory=TurnLossConfig)


@dataclass(frozen=True)
class FisherConfig:
    """Where the Fisher information of elastic weight consolidation is measured (`train.fisher`)."""

    data: str = ""
    """Corpus spec of the general population; '': what the start was trained on."""
    split: str = "train"
    utterances: int = 2_000
    """At most, spread evenly over the corpus."""
    floor: float = 0.0
    """No value is smaller, their mean being 1."""


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (`models.adapters`); the model that comes out has them in its weights."""

    rank: int = 0
    """Of each layer's adapter; with one, adapters are all that is trained. 0: none."""
    layers: str = r"^encoder\.blocks\."
    """Regular expression that is looked for in the names of linear layers
    (encoder.blocks.0.attention.attention.query), among those of `parts`."""
    alpha: float = 16.0
    """What they learn counts alpha / rank times."""


@dataclass(frozen=True)
class AdaptConfig:
    """How a run stays near the model that it starts from (`train.adaptation`)."""

    parts: Literal["all", "encoder", "prediction", "joint", "encoder+joint", "prediction+joint"] = (
        "all"
    )
    """What is trained; the rest keeps the start's weights, bit for bit."""
    fixed_norms: bool = False
    """No dropout, and batch normalisation by its running statistics, which stay as they are."""
    anchor: Literal["none", "ewc", "l2"] = "none"
    """ewc: elastic weight consolidation, (weight / 2) sum F (theta - theta*)^2, F the diagonal
    Fisher information at the start theta*; l2: the same with F = 1."""
    weight: float = 0.3
    """lambda of the anchor."""
    proximal: bool = False
    """Apply the anchor after the optimiser's step, as its proximal map, and not by its gradient:
    Adam divides by a gradient's size, so that a gradient, however large, holds nothing."""
    fisher: FisherConfig = field(default_factory=FisherConfig)
    distill: float = 0.0
    """Weight of the divergence from what the start says of the same batch
    (`train.losses.distillation`)."""
    distill_stride: int = 4
    """One in so many frames is compared."""
    lora: LoraConfig = field(default_factory=LoraConfig, metadata=LATER)


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW under a linear warm-up, a plateau and a cosine decay."""

    peak_lr: float = 2e-3
    warmup_steps: int = 500
    hold_fraction: float = 0.3
    """Share of the steps after the warm-up that stay at the peak."""
    final_lr_fraction: float = 0.02
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    beta2: float = 0.98
    accumulate: int = 1
    """Microbatches a step: the batch is cut in so many parts and their gradients averaged."""
    ema: float = 0.999
    """Decay of the averaged weights, which evaluation and the shipped model use."""


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the device mesh's axes; -1 takes what the others leave."""

    data: int = -1
    fsdp: int = 1
    model: int = 1


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What a run is, whatever it trains: all that the loop asks of a recipe."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix work; parameters, losses, softmax and statistics stay float32."""
    steps: int = 2_000
    seed: int = 0
    log_every: int = 10
    eval_every: int = 500
    checkpoint_every: int = 500
    checkpoints_kept: int = 3


@dataclass(frozen=True)
class Recipe(RunRecipe):
    name: str
    model: TransducerConfig
    description: str = ""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    init_from: str = ""
    """Zoo name or model folder whose weights, tokeniser and feature statistics start the run."""
    eval_utterances: int = 128
    adapt: AdaptConfig = field(default_factory=AdaptConfig, metadata=LATER)
    remat: Policy = field(default="none", metadata=LATER)
    """What an encoder's blocks keep for the backward pass: all; `products`, the results of matrix
    products; or `blocks`, their inputs alone. Less memory, more computation, the same numbers."""


def recipe_to_dict(recipe: RunRecipe) -> dict[str, Any]:
    """Plain JSON types of a recipe of any task; tuples become lists."""
    return dataclasses.asdict(recipe)


def identity(config: Any) -> dict[str, Any]:
    """What tells a recipe from others: `recipe_to_dict` without `LATER` fields at their
    defaults."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if not (f.metadata.get("later") and value == default):
            found[f.name] = identity(value) if dataclasses.is_dataclass(value) else value
    return found


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `recipe_to_dict` wrote.

    Raises InputError for an unknown field, a missing one or a value of the wrong type.
    """
    return build(Recipe, values, "recipe")
