"""How much of a Transformer-Transducer's computation can be left out, and at what cost in errors?

    parley experiment amortized --only dense-s0 amortized-0.4-s0   # the main claim's first seed
    parley experiment amortized

Everything but the smaller models begins as `tt-tiny-assistant`, a dense model, and goes on for the
same steps, on the same data, with the same learning rates: dense (the control), and with
arbitrators under a budget. Sentences of `assistant`, in which a quarter of the frames holds no
speech; 31,000 words of 140 test speakers, who are none of training's.
Results: docs/results/amortized.md.
"""

from dataclasses import replace
from typing import Any

from ...models.transducer import TransducerConfig
from ...train.experiment import Condition, Experiment, Part, Row
from ...train.recipe import ComputeConfig
from .. import amortized, transformer
from ..amortized import LEARNED, gated
from .encoders import MODELS

START = "tt-tiny-assistant"
SEEDS = (0, 1, 2)
RATIO = 0.4
"""Of the main claim."""
RATIOS = (1.0, 0.7, 0.55, 0.3, 0.2)
"""The other budgets of the curve."""

_DENSE = MODELS["tt"]
_BASE = replace(transformer.PRESETS[START], description="", checkpoints_kept=1)
_ON = amortized.PRESETS["amortized-tt-tiny"]
"""How all that is compared goes on."""


def _on(group: str, seed: int, model: TransducerConfig, **compute: Any) -> Row:
    """A row that goes on from the dense model."""
    loss = replace(_ON.loss, compute=ComputeConfig(**compute))
    recipe = replace(
        _BASE,
        name=group,
        model=model,
        seed=seed,
        init_from=START,
        optimizer=_ON.optimizer,
        loss=loss,
        steps=_ON.steps,
    )
    return Row(f"{group}-s{seed}", group, recipe)


def _budget(ratio: float, seed: int, group: str = "", **changes: Any) -> Row:
    """Arbitrators under a budget; `changes` of the encoder."""
    model = gated(_DENSE)
    model = replace(model, encoder=replace(model.encoder, **changes))
    return _on(group or f"amortized-{ratio:g}", seed, model, objective="budget", ratio=ratio)


def _smaller(group: str, **changes: Any) -> Row:
    """A smaller dense model, from the beginning, for as many steps as the others have in all."""
    model = replace(_DENSE, encoder=replace(_DENSE.encoder, **changes))
    steps = _BASE.steps + _ON.steps
    recipe = replace(_BASE, name=group, model=model, init_from="", steps=steps)
    return Row(group, group, recipe)


def _window(left: int) -> Row:
    """Attention to fewer frames: the weights are the dense model's."""
    return _on(f"window-{left}", 0, replace(_DENSE, encoder=replace(_DENSE.encoder, left=left)))


def _main() -> tuple[Row, ...]:
    return tuple(
        row for seed in SEEDS for row in (_on("dense", seed, _DENSE), _budget(RATIO, seed))
    )


def _budgets() -> tuple[Row, ...]:
    return tuple(_budget(ratio, seed) for seed in SEEDS for ratio in RATIOS)


def _variants() -> tuple[Row, ...]:
    heads = replace(LEARNED, block_hidden=8)
    early = replace(
        _budget(RATIO, 0).recipe,
        name="early",
        init_from=_BASE.init_from,
        optimizer=_BASE.optimizer,
        steps=_BASE.steps + _ON.steps,
    )
    return (
        _budget(RATIO, 0, "all-keys", keys="all"),
        _budget(RATIO, 0, "heads-on-blocks", arbitrator=heads),
        _on("target", 0, gated(_DENSE), objective="target", ratio=RATIO, price=4.0),
        _on("linear", 0, gated(_DENSE), objective="linear", price=2.0),
        Row("early", "early", early),
    )


_TEST = " + ".join(["assistant", *(f"assistant?seed={seed}" for seed in (1, 2, 3))])
CONDITIONS = (Condition("sentences", _TEST),)

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="amortized",
            title="Compute-amortized Transformer-Transducer",
            question=(
                "What share of a streaming Transformer-Transducer's encoder can arbitrators leave "
                "out, frame by frame, and how many more errors does that make? Is that better than "
                "a smaller model of the same cost, or attention to fewer frames?"
            ),
            small=("dense-s0", f"amortized-{RATIO:g}-s0"),
            parts=(
                Part(
                    title="Budgets",
                    text=f"All go on from `{START}` for the same steps. The main claim is "
                    f"`amortized-{RATIO:g}` against `dense`.",
                    rows=(*_main(), *_budgets()),
                    conditions=CONDITIONS,
                    baseline="dense",
                    plot="encoder",
                ),
                Part(
                    title="Other ways to save",
                    text="`narrow` and `shallow` are dense models of that cost, trained from the "
                    "beginning for all the steps. `window` is attention to fewer frames.",
                    rows=(
                        _smaller("narrow", width=68),
                        _smaller("shallow", width=96, blocks=3),
                        *(_window(left) for left in (8, 2, 0)),
                    ),
                    conditions=CONDITIONS,
                    baseline="dense",
                ),
                Part(
                    title="Variants",
                    text="Keys of all frames; arbitrators that see the blocks too; the other "
                    "objectives; `early`: gates from `tt-tiny` on, which knows no sentences yet.",
                    rows=_variants(),
                    conditions=CONDITIONS,
                    baseline=f"amortized-{RATIO:g}",
                ),
            ),
        ),
    )
}
