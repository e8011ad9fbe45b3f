"""How a model is run: text is searched for greedily, or by a beam with what may help it.

zoo.load("rnnt-tiny", decoding=Decoding(beam=4, phrases=("ceiling fan", "Aoife")))
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..data.arpa import read_arpa
from ..data.errors import InputError
from ..data.phrases import check_phrase, read_phrases
from ..data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..models.beam_state import Scorer


class Options(NamedTuple):
    """What a compiled program depends on."""

    width: int
    nbest: int
    prune: float
    internal_lm: float


@dataclass(frozen=True)
class Decoding:
    """Greedy search, or a beam.

    Attributes:
      beam: hypotheses that are kept; 1 is greedy search, the default.
      nbest: hypotheses that are given back, at most `beam`.
      prune: hypotheses this many nats behind the best are dropped.
      lm: an ARPA file of the model's own tokens (`parley ngram` makes one).
      lm_weight: of its log-probabilities.
      token_reward: nats for each token, with a language model: it prefers shorter texts.
      internal_lm: weight of the model's own expectation, which is taken off; HAT models only.
      phrases: words and phrases to expect, or the path of a file of them, one a line.
      phrase_weight: nats that each letter of a phrase is worth.
      theta: probability above which the gates of an amortized encoder open; higher computes less.
        By default as the model was trained.
    """

    beam: int = 1
    nbest: int = 1
    prune: float = 4.0
    lm: Path | None = None
    lm_weight: float = 0.1
    token_reward: float = 0.2
    internal_lm: float = 0.0
    phrases: Path | tuple[str, ...] = ()
    phrase_weight: float = 0.2
    theta: float | None = None

    def __post_init__(self):
        if self.beam < 1 or not 1 <= self.nbest <= self.beam:
            raise InputError(
                f"a beam of {self.beam} cannot give {self.nbest} hypotheses: nbest lies between 1 "
                "and beam."
            )
        if self.beam == 1 and (self.lm or self.phrases or self.internal_lm):
            raise InputError(
                "language models and phrases need a beam: give --beam 4 (greedy search looks at "
                "one hypothesis only)."
            )

    def arguments(self) -> list[str]:
        """What a command line says to have it; nothing for greedy search."""
        said: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values = value if isinstance(value, tuple) else (value,)
                said += [f"--{field.name.replace('_', '-')}", *map(str, values)]
        return said

    @property
    def options(self) -> Options:
        return Options(self.beam, self.nbest, self.prune, self.internal_lm)

    def scorer(self, tokenizer: Tokenizer, hat: bool) -> "Scorer | None":
        """What scores hypotheses beside the model; None: nothing does."""
        if self.internal_lm and not hat:
            raise InputError(
                "this model's joint is not HAT, so its internal language model cannot be taken "
                "off: leave --internal-lm out."
            )
        from ..models.scoring import Chain, NGram, Phrases

        pieces = tokenizer.pieces
        scorers: list[NGram | Phrases] = []
        if self.lm is not None:
            orders = read_arpa(Path(self.lm), pieces).orders
            scorers.append(
                NGram.build(orders, weight=self.lm_weight, token_reward=self.token_reward)
            )
        if self.phrases:
            if isinstance(self.phrases, Path):
                phrases, weights = read_phrases(self.phrases, pieces)
            else:
                phrases = [check_phrase(p, pieces, "phrases") for p in self.phrases]
                weights = [1.0] * len(phrases)
            try:
                scorers.append(Phrases.build(phrases, pieces, weights, weight=self.phrase_weight))
            except ValueError as error:
                raise InputError(f"{error}: give fewer phrases.") from None
        if len(scorers) < 2:
            return scorers[0] if scorers else None
        return Chain(tuple(scorers))


GREEDY = Decoding()
