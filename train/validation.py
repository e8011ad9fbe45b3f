"""Word error rate of a development set while a model is trained."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ..data.corpus import Corpus, Utterance, is_endless
from ..data.errors import InputError
from ..data.joined import JoinedCorpus
from ..data.loader import evaluation_batches
from ..data.targets import Speller
from ..data.text import normalize
from ..data.tokenizer import Tokenizer
from ..data.turns import assign_channels, turns_of
from ..data.views import SelectedCorpus
from ..metrics.wer import WordErrors, word_errors
from ..models.decoding import greedy
from ..models.frontend import append_tail
from ..models.transducer import channels_of
from .recipe import Recipe
from .sharding import put_batch
from .step import merge_model

MAX_TOKENS = 96
MAX_TOKENS_OF_TURNS = 240
HELD_OUT = 10
"""One in so many speakers, or utterances, is held out where no development set is given."""


COLLAPSE_STEPS = 1_000
"""Before so many steps, saying nothing is how most models begin."""
COLLAPSE_WER = 0.8
"""Whoever has been better than this and says nothing has lost it."""


class Validation:
    """`validation(params, frozen) -> WER` on `recipe.eval_utterances` of the development set.

    Of conversations: the words of each channel against those that the channel rule puts there,
    channels exchanged where that has fewer errors. It is at least the ORC-WER.

    Attributes:
      silent: whether the model said nothing at all the last time.
    """

    def __init__(
        self, graphdef: Any, recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, mesh: Mesh
    ):
        self.tokenizer = tokenizer
        self.mesh = mesh
        self.silent = False
        self._best = 1.0
        self._channels = channels_of(recipe.model)
        speller = Speller(tokenizer, self._channels, recipe.data.channel_rule)
        count = min(len(corpus), recipe.eval_utterances)
        spread = np.linspace(0, len(corpus) - 1, count).astype(int) if count else []
        corpus = SelectedCorpus(corpus, [int(i) for i in spread], corpus.name)
        self.batches = list(evaluation_batches(corpus, multiple=mesh.size))
        self.references = {
            i: _texts(corpus.utterance(i), speller)
            for batch in self.batches
            for i in batch["index"].tolist()
            if i >= 0
        }

        def decode(params: Any, frozen: Any, batch: Mapping[str, jax.Array]):
            model = merge_model(graphdef, params, frozen)
            x, lengths = model.features(
                *append_tail(batch["samples"], batch["sample_lengths"], recipe.model.frontend)
            )
            encoded, lengths = model.encode(x, lengths)
            most = MAX_TOKENS_OF_TURNS if speller.by_turns else MAX_TOKENS
            hypotheses, _ = greedy(model, encoded, lengths, max_tokens=most)
            return hypotheses.tokens, hypotheses.counts

        self.decode = jax.jit(decode)

    def __call__(self, params: Any, frozen: Any) -> float:
        """WER as a fraction; 1.0 where the development set has no words."""
        errors, said = WordErrors(), 0
        for batch in self.batches:
            rows = {k: own_rows(v) for k, v in batch.items() if k != "index"}
            decoded = self.decode(params, frozen, put_batch(rows, self.mesh))
            tokens, counts = multihost_utils.process_allgather(decoded, tiled=True)
            texts = [self.tokenizer.decode(row[:n]) for row, n in zip(tokens, counts, strict=True)]
            for row, i in enumerate(batch["index"].tolist()):
                if i >= 0:
                    heard = texts[row * self._channels : (row + 1) * self._channels]
                    said += sum(map(bool, heard))
                    errors += _fewest(self.references[i], heard)
        self.silent = not said and errors.words > 0
        return errors.wer if errors.words else 1.0

    def require_speech(self, wer: float, step: int, steps: int) -> None:
        """Raises InputError where the model has collapsed to saying nothing, and will not recover.

        wer: of the last call, after `step` of `steps`.
        """
        late = step >= max(COLLAPSE_STEPS, steps // 2)
        if self.silent and (late or self._best < COLLAPSE_WER):
            before = (
                f"after it had reached {100 * self._best:.0f} % word errors"
                if self._best < COLLAPSE_WER
                else "and has never said anything"
            )
            raise InputError(
                f"training stopped at step {step}: the model says nothing at all on the "
                f"development set (all its output is blank), {before}. Lower --optimizer.peak-lr "
                "and --loss.fastemit, let penalties begin later, or begin from another model with "
                "--init-from."
            )
        self._best = min(self._best, wer)


def _texts(utterance: Utterance, speller: Speller) -> list[str]:
    """The words of each channel."""
    if not speller.by_turns:
        return [normalize(utterance.text)]
    turns = turns_of(utterance)
    channels, _ = assign_channels(turns, speller.rule, speller.channels)
    placed = list(zip(turns, channels, strict=True))
    return [
        " ".join(normalize(turn.text) for turn, channel in placed if channel == c)
        for c in range(speller.channels)
    ]


def _fewest(references: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """Errors over all channels, in the order of them that has fewest."""
    candidates = []
    for order in permutations(heard):
        errors = WordErrors()
        for reference, text in zip(references, order, strict=True):
            errors += word_errors(reference, text)
        candidates.append(errors)
    return min(candidates, key=lambda errors: errors.total)


def hold_out(corpus: Corpus, *, least: int = 1) -> tuple[Corpus, Corpus, str]:
    """(corpus to train on, development set, a sentence that says what it is).

    A tenth of the speakers, if there are ten or more; else a tenth of the utterances. Which ones is
    decided by a hash of their names, so it is the same in every run and on every host, and most of
    it stays when recordings are added. `least`: so many speakers at least.

    Raises InputError for a sum of corpora of which some are drawn anew in every epoch.
    """
    if isinstance(corpus, JoinedCorpus):
        # What is joined must be divided, not the strings: they share their recordings.
        parts = hold_out(corpus.base.base)
        draws = max(corpus.draws // HELD_OUT, 1)
        train, dev = (
            JoinedCorpus(part, corpus.low, corpus.high, draws=count, seed=corpus.seed)
            for part, count in zip(parts[:2], (corpus.draws, draws), strict=True)
        )
        return train, dev, parts[2]
    if is_endless(corpus):
        raise InputError(
            f"nothing can be held out of {corpus.name}: name a development set by --data.dev."
        )
    utterances = [corpus.utterance(i) for i in range(len(corpus))]
    speakers = sorted({u.speaker for u in utterances if u.speaker})
    if len(speakers) >= HELD_OUT:
        chosen = {speakers[i] for i in _tenth(speakers, least)}
        held = [i for i, u in enumerate(utterances) if u.speaker in chosen]
        what = f"{len(chosen)} of {len(speakers)} speakers ({len(held):,} utterances)"
    else:
        held = sorted(_tenth([u.id for u in utterances]))
        what = f"{len(held):,} of {len(utterances):,} utterances"
    rest = sorted(set(range(len(utterances))) - set(held))
    return (
        SelectedCorpus(corpus, rest, corpus.name),
        SelectedCorpus(corpus, held, corpus.name),
        f"{what} of {corpus.name} are held out to validate on; --data.dev names others",
    )


def _tenth(names: Sequence[str], least: int = 1) -> list[int]:
    """Positions of a tenth of the names, at least `least`; none of a single name."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    return order[: min(max(len(names) // HELD_OUT, least), len(names) - 1)]


def own_rows(rows: np.ndarray) -> np.ndarray:
    """This process's share of the rows."""
    count, index = jax.process_count(), jax.process_index()
    return rows[index * len(rows) // count : (index + 1) * len(rows) // count]
