"""Word error rate of a development set while a model is trained."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ..data.corpus import Corpus, is_endless
from ..data.errors import InputError
from ..data.joined import JoinedCorpus
from ..data.loader import evaluation_batches
from ..data.text import normalize
from ..data.tokenizer import Tokenizer
from ..data.views import SelectedCorpus
from ..metrics.wer import WordErrors, word_errors
from ..models.decoding import greedy
from ..models.frontend import append_tail
from .recipe import Recipe
from .sharding import put_batch
from .step import merge_model

MAX_TOKENS = 96
HELD_OUT = 10
"""One in so many speakers, or utterances, is held out where no development set is given."""


class Validation:
    """`validation(params, frozen) -> WER` on `recipe.eval_utterances` of the development set."""

    def __init__(
        self, graphdef: Any, recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, mesh: Mesh
    ):
        self.tokenizer = tokenizer
        self.mesh = mesh
        count = min(len(corpus), recipe.eval_utterances)
        spread = np.linspace(0, len(corpus) - 1, count).astype(int) if count else []
        corpus = SelectedCorpus(corpus, [int(i) for i in spread], corpus.name)
        self.batches = list(evaluation_batches(corpus, multiple=mesh.size))
        self.references = {
            i: normalize(corpus.utterance(i).text)
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
            hypotheses, _ = greedy(model, encoded, lengths, max_tokens=MAX_TOKENS)
            return hypotheses.tokens, hypotheses.counts

        self.decode = jax.jit(decode)

    def __call__(self, params: Any, frozen: Any) -> float:
        """WER as a fraction; 1.0 where the development set has no words."""
        errors = WordErrors()
        for batch in self.batches:
            rows = {k: own_rows(v) for k, v in batch.items() if k != "index"}
            decoded = self.decode(params, frozen, put_batch(rows, self.mesh))
            tokens, counts = multihost_utils.process_allgather(decoded, tiled=True)
            for i, row, n in zip(batch["index"].tolist(), tokens, counts, strict=True):
                if i >= 0:
                    errors += word_errors(self.references[i], self.tokenizer.decode(row[:n]))
        return errors.wer if errors.words else 1.0


def hold_out(corpus: Corpus) -> tuple[Corpus, Corpus, str]:
    """(corpus to train on, development set, a sentence that says what it is).

    A tenth of the speakers, if there are ten or more; else a tenth of the utterances. Which ones is
    decided by a hash of their names, so it is the same in every run and on every host, and most of
    it stays when recordings are added.

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
        chosen = {speakers[i] for i in _tenth(speakers)}
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


def _tenth(names: Sequence[str]) -> list[int]:
    """Positions of a tenth of the names, at least one; none of a single name."""
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    return order[: min(max(len(names) // HELD_OUT, 1), len(names) - 1)]


def own_rows(rows: np.ndarray) -> np.ndarray:
    """This process's share of the rows."""
    count, index = jax.process_count(), jax.process_index()
    return rows[index * len(rows) // count : (index + 1) * len(rows) // count]
