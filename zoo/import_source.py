"""What is known of another toolkit's model before it is written as ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..models.centred_frontend import CentredFrontendConfig
from ..models.encoders.fastconformer import FastConformerConfig
from ..models.transducer import JointConfig, PredictionConfig, TransducerConfig
from .import_weights import Tensors

Lookahead: TypeAlias = int | None
_MOST = 1 << 20
"""No number of a configuration is larger: such ones are of damaged files, or would fill memory."""


@dataclass(frozen=True)
class Foreign:
    """A model of another toolkit.

    Attributes:
      kind: what its toolkit calls it.
      model: its configuration in our terms.
      scale: of the input of the encoder's blocks.
      tokenizer: with the blank first.
      tensors: its weights under transformers' names, float32 when they are taken.
      readme: its model card, which may be missing.
    """

    kind: str
    model: TransducerConfig
    scale: float
    tokenizer: Tokenizer
    tensors: Tensors
    readme: Path | None = None

    @property
    def streaming(self) -> bool:
        """Whether it answers in chunks."""
        encoder = self.model.encoder
        return isinstance(encoder, FastConformerConfig) and encoder.chunk is not None


def fields(values: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """A table within a configuration. Raises InputError where there is none."""
    found = values.get(name)
    if not isinstance(found, Mapping):
        raise InputError(f"{where} has no table {name}: it is of another kind of model.")
    return found


def number(values: Mapping[str, Any], name: str, default: int | None, where: str) -> int:
    """A whole number from 1 on; without a default it must be there. Raises InputError."""
    found = values.get(name, default)
    low = 0 if name == "default_num_lookahead_tokens" else 1
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= _MOST:
        raise InputError(f"{where}: {name} is {found!r}, no number of that kind.")
    return found


def numbers(values: Any, name: str, where: str) -> tuple[int, ...]:
    """A short list of whole numbers from 0 on. Raises InputError."""
    good = isinstance(values, Sequence) and len(values) <= 64 and not isinstance(values, str)
    if not good or not all(type(n) is int and 0 <= n <= 10_000 for n in values):
        raise InputError(f"{where}: {name} is {values!r}, no list of numbers.")
    return tuple(values)


def check_chunk(lookahead: Lookahead, default: int, allowed: Sequence[int]) -> int:
    """Frames of a chunk with this look-ahead. Raises InputError for one without training."""
    chosen = default if lookahead is None else lookahead
    if lookahead is not None and chosen not in allowed:
        raise InputError(
            f"--lookahead {chosen} is none that this model was trained with: give one of "
            f"{', '.join(map(str, allowed))}."
        )
    return chosen + 1


def refuse_lookahead(lookahead: Lookahead) -> None:
    """Of a model that has none to choose. Raises InputError."""
    if lookahead is not None:
        raise InputError("this model hears whole recordings: leave --lookahead out.")


def check_known(values: Mapping[str, tuple[Any, Sequence[Any]]], where: str) -> None:
    """Raises InputError for the first of (what it is, what it may be) that is something else."""
    for name, (found, known) in values.items():
        if found not in known:
            raise InputError(f"{where}: {name} is {found!r}, which parley import does not know.")


def transducer_of(
    *,
    vocab_size: int,
    encoder: FastConformerConfig,
    frontend: CentredFrontendConfig,
    inner: int,
    layers: int,
    activation: str,
    durations: tuple[int, ...],
) -> TransducerConfig:
    """A model with this encoder, and `layers` of `inner` units in its prediction network."""
    return TransducerConfig(
        vocab_size=vocab_size,
        encoder=encoder,
        prediction=PredictionConfig(
            embedding=inner, width=inner, layers=layers, output=encoder.output, dropout=0.2
        ),
        frontend=frontend,
        joint=JointConfig(activation=activation, durations=durations),
    )


def frontend_of(
    *,
    bins: int,
    window_s: float,
    hop_s: float,
    n_fft: int,
    preemphasis: float,
    chunk: int | None,
) -> CentredFrontendConfig:
    """The front end of a model that answers in chunks of so many frames, or of one for whole
    recordings. In a stream the silence at the end lets the last chunk be completed."""
    config = CentredFrontendConfig(
        bins=bins, window_s=window_s, hop_s=hop_s, n_fft=n_fft, preemphasis=preemphasis
    )
    if chunk is None:
        return config
    tail_s = round(hop_s * 8 * (chunk + 1), 6)
    return replace(config, normalize="none", delay=True, tail_s=tail_s)
