"""Word error rate of a development set while a model is trained."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ..data.corpus import Corpus
from ..data.loader import evaluation_batches
from ..data.text import normalize
from ..data.tokenizer import Tokenizer
from ..data.views import SelectedCorpus
from ..metrics.wer import WordErrors, word_errors
from ..models.decoding import greedy
from .recipe import Recipe
from .sharding import put_batch
from .step import append_tail, merge_model

MAX_TOKENS = 96


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
            rows = {k: _slice(v) for k, v in batch.items() if k != "index"}
            decoded = self.decode(params, frozen, put_batch(rows, self.mesh))
            tokens, counts = multihost_utils.process_allgather(decoded, tiled=True)
            for i, row, n in zip(batch["index"].tolist(), tokens, counts, strict=True):
                if i >= 0:
                    errors += word_errors(self.references[i], self.tokenizer.decode(row[:n]))
        return errors.wer if errors.words else 1.0


def _slice(rows: np.ndarray) -> np.ndarray:
    """This process's share of the rows."""
    count, index = jax.process_count(), jax.process_index()
    return rows[index * len(rows) // count : (index + 1) * len(rows) // count]
