"""What is known of another toolkit's model before it is written as ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ..data.errors import InputError
from ..data.tokenizer import Tokenizer
from ..models.encoders.fastconformer import FastConformerConfig
from ..models.transducer import TransducerConfig
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
