"""Compute-amortized Transformer-Transducers: arbitrators switch parts of the encoder off by frame.

    parley train amortized-tt-tiny                                  # two CPU cores
    parley train amortized-tt-30m --init-from runs/tt-30m/model    # accelerators

They begin as the dense model of configs/transformer.py, whose weights `--init-from` names, with
nine gates in ten open, and learn to spend the share of its computation that
`--loss.compute.ratio` says. Results: docs/results/amortized.md, and the models' cards.
"""

import dataclasses

from ..models.encoders.amortized import AmortizedConfig
from ..models.encoders.transformer import TransformerConfig
from ..models.gates import ArbitratorConfig
from ..models.transducer import TransducerConfig
from ..train.recipe import ComputeConfig, LossConfig, OptimizerConfig, Recipe
from . import transformer

LEARNED = ArbitratorConfig()


def gated(model: TransducerConfig, arbitrator: ArbitratorConfig = LEARNED) -> TransducerConfig:
    """The model of a dense Transformer encoder with gates on its parts."""
    dense = model.encoder
    assert isinstance(dense, TransformerConfig)
    shape = {f.name: getattr(dense, f.name) for f in dataclasses.fields(dense)}
    del shape["kind"]
    return dataclasses.replace(model, encoder=AmortizedConfig(**shape, arbitrator=arbitrator))


_TINY = transformer.PRESETS["tt-tiny-assistant"]
_LARGE = transformer.PRESETS["tt-30m"]

PRESETS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            _TINY,
            name="amortized-tt-tiny",
            description="Transformer-Transducer that skips parts of its encoder frame by frame.",
            model=gated(_TINY.model),
            # Without the auxiliary CTC, which asks for other frames than the transducer does.
            loss=LossConfig(ctc_weight=0.0, compute=ComputeConfig(objective="budget", ratio=0.7)),
            optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=100),
            init_from="tt-tiny-assistant",
            steps=4_000,
        ),
        dataclasses.replace(
            _LARGE,
            name="amortized-tt-30m",
            description="Amortized Transformer-Transducer of 32.0 M parameters, for LibriSpeech.",
            model=gated(_LARGE.model),
            loss=dataclasses.replace(
                _LARGE.loss, compute=ComputeConfig(objective="budget", ratio=0.4)
            ),
        ),
    )
}
