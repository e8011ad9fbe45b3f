"""Embeddings of a corpus while a model is trained: for the error rate, and for the regions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ...data.corpus import Corpus
from ...data.errors import InputError
from ...data.loader import evaluation_batches
from ...data.views import SelectedCorpus
from ...metrics.verification import equal_error, error_curve
from ...models.speakers.network import normalized
from ..sharding import put_batch
from ..validation import own_rows
from .recipe import SpeakerRecipe

_BUCKETS = 2


class Embedder:
    """`embedder(params, frozen) -> [U, D]` of a corpus's utterances, unit length, on the host.

    Rows of recordings that could not be read are NaN.
    """

    def __init__(self, graphdef: Any, corpus: Corpus, width: int, mesh: Mesh, *, batch_s: float):
        self.mesh, self.width, self.count = mesh, width, len(corpus)
        self.batches = list(
            evaluation_batches(corpus, batch_seconds=batch_s, buckets=_BUCKETS, multiple=mesh.size)
        )

        def embed(params: Any, frozen: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            model = nnx.merge(graphdef, params, frozen)
            return normalized(model(batch["samples"], batch["sample_lengths"]))

        self.embed = jax.jit(embed)

    def __call__(self, params: Any, frozen: Any) -> np.ndarray:
        found = np.full((self.count, self.width), np.nan, np.float32)
        for batch in self.batches:
            rows = {k: own_rows(v) for k, v in batch.items() if k != "index"}
            embedded = self.embed(params, frozen, put_batch(rows, self.mesh))
            embedded = multihost_utils.process_allgather(embedded, tiled=True)
            read = batch["index"] >= 0
            found[batch["index"][read]] = np.asarray(embedded)[read]
        return found


class SpeakerValidation:
    """`validation(params, frozen)`: equal error rate over all pairs of the development set.

    Raises:
      InputError: it has no two recordings of one speaker, or no two speakers.
    """

    def __init__(self, graphdef: Any, recipe: SpeakerRecipe, corpus: Corpus, mesh: Mesh):
        chosen = spread_over_speakers(corpus, recipe.eval_utterances)
        corpus = SelectedCorpus(corpus, chosen, corpus.name)
        names = np.array([corpus.utterance(i).speaker for i in range(len(corpus))])
        self.first, self.second = np.triu_indices(len(names), 1)
        self.targets = names[self.first] == names[self.second]
        if not self.targets.any() or self.targets.all():
            raise InputError(
                f"{corpus.name}: a development set needs two speakers, and two recordings of one "
                "of them; name another by --data.dev."
            )
        self.embedder = Embedder(
            graphdef, corpus, recipe.model.encoder.output, mesh, batch_s=recipe.data.batch_seconds
        )

    def __call__(self, params: Any, frozen: Any) -> dict[str, float]:
        """`eer` as a fraction, and the `threshold` at which it is."""
        embedded = np.nan_to_num(self.embedder(params, frozen))
        scores = np.einsum("kd,kd->k", embedded[self.first], embedded[self.second])
        found = equal_error(error_curve(scores, self.targets))
        return {"eer": found.rate, "threshold": found.threshold}


def spread_over_speakers(corpus: Corpus, count: int) -> list[int]:
    """About `count` utterances: everyone's first, then everyone's second, ... in corpus order."""
    turns: dict[str, int] = {}
    order: list[tuple[int, int]] = []
    for i in range(len(corpus)):
        speaker = corpus.utterance(i).speaker
        if speaker:
            turns[speaker] = turns.get(speaker, 0) + 1
            order.append((turns[speaker], i))
    return sorted(i for _, i in sorted(order)[:count])


def take_of_each(members: Sequence[np.ndarray], count: int) -> list[int]:
    """Indices of the first `count` recordings of every speaker."""
    return [int(i) for items in members for i in items[:count]]
