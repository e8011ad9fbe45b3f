"""What a recogniser is to those who feed it, wherever its programs come from.

`Recognizer` compiles a model; `ExportedRecognizer` reads what was exported, and no model's code is
imported for it.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.tokenizer import Tokenizer
from ..metrics.calibration import Calibrator
from .transcript import Token

STREAM_BLOCKS = (64, 8, 1)
"""Encoder steps that a stream takes at once, largest first: each is a program of its own."""


class Hypothesis(NamedTuple):
    """What a row may have said."""

    tokens: list[Token]
    score: float = 0.0
    """Log-probability in beam search, with what language model and phrases added; else 0."""


class Heard(NamedTuple):
    """What a step of a stream gave."""

    tokens: list[Token]
    """They stay, whatever comes."""
    tentative: list[Token]
    """Those that follow in the best hypothesis of a beam: another may overtake it."""


class Programs(Protocol):
    """See `Recognizer`; the state of streams is opaque. What comes out has `channels` rows for each
    row that goes in, one after the other."""

    tokenizer: Tokenizer
    samples_per_step: int
    frame_s: float
    tail: int
    channels: int
    streams: bool
    calibrator: Calibrator | None
    row_multiple: int

    def dispatch(self, samples: np.ndarray, lengths: np.ndarray) -> Any: ...

    def fetch(self, found: Any) -> list[list[Hypothesis]]: ...

    def start_streams(self, count: int) -> Any: ...

    def step(
        self,
        samples: np.ndarray,
        state: Any,
        *,
        active: np.ndarray | None = None,
        fresh: np.ndarray | None = None,
    ) -> tuple[list[Heard], Any]: ...

    def rest(self, state: Any) -> list[list[Token]]: ...


def tokens_of(hypotheses: Any, at: Any) -> list[Token]:
    """Of one row, or of one hypothesis of a row, of (tokens, frames, logp [..., N], counts) in
    the host's memory."""
    tokens, frames, logp, counts = (x[at] for x in hypotheses)
    spoken = zip(tokens[:counts], frames[:counts], np.exp(logp[:counts]), strict=True)
    return [Token(int(token), int(frame), float(p)) for token, frame, p in spoken]
