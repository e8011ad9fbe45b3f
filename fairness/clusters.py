"""Cohorts of voices: clusters of speakers' embeddings, found without any label.

A speaker is the mean of his utterances' embeddings, each of unit length, brought to unit length
again; k-means parts the speakers, and a new one is of the cluster whose centre is nearest ("Toward
Fairness in Speech Recognition", Dheram et al., Interspeech 2022, arXiv 2207.11345, with 50
clusters). Embeddings come as arrays; which model made them is written down, for those of another
have nothing in common with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ..data.errors import InputError
from ..train.speakers.regions import speaker_means
from .cohorts import checked_array, texts
from .population import Population

CLUSTERS = 50
RESTARTS = 10
MIN_UTTERANCES = 5
RECLUSTERINGS = 5


@dataclass(frozen=True)
class Clusters:
    """Clusters of voices.

    Attributes:
      names: K of them, the largest first.
      centres: [K, D] float32.
      model: which embeddings they are clusters of: a name and a fingerprint.
    """

    kind: ClassVar[str] = "clusters"
    names: tuple[str, ...]
    centres: np.ndarray
    model: tuple[str, str]

    def assign(self, population: Population) -> np.ndarray:
        """See `Cohorts`; a speaker without an embedding is of no cluster.

        Raises:
          ValueError: the population has no embeddings, or of another width.
        """
        if population.embeddings is None:
            raise ValueError("the population has no embeddings")
        return self.nearest(population.embeddings)

    def nearest(self, embeddings: np.ndarray) -> np.ndarray:
        """The nearest centre [S] of embeddings [S, D]; -1 where they are nan."""
        fine = np.isfinite(embeddings).all(axis=1)
        found = np.full(len(embeddings), -1)
        found[fine] = np.argmin(self._distances(embeddings[fine]), axis=1)
        return found

    def examples(self, population: Population, count: int) -> list[tuple[str, ...]]:
        """The speakers nearest to each centre, of those who belong to it."""
        own = self.assign(population)
        assert population.embeddings is not None  # or assign had said so
        found = []
        for k in range(len(self.names)):
            members = np.flatnonzero(own == k)
            distance = self._distances(population.embeddings[members])[:, k]
            closest = members[np.argsort(distance, kind="stable")[:count]]
            found.append(tuple(population.speakers[i] for i in closest))
        return found

    def _distances(self, embeddings: np.ndarray) -> np.ndarray:
        """Squared distances [S, K] to the centres, but for what is the same for all of them."""
        centres = self.centres.astype(np.float64)
        return (centres**2).sum(axis=1) - 2 * embeddings.astype(np.float64) @ centres.T

    def fields(self) -> dict[str, Any]:
        """See `Cohorts`."""
        return {"model": list(self.model)}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Cohorts`."""
        return {"centres": self.centres}

    @classmethod
    def restore(
        cls, names: tuple[str, ...], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """See `Cohorts`."""
        centres = checked_array(arrays, "centres", (len(names), None), np.float32)
        if not np.isfinite(centres).all():
            raise ValueError("a centre is not finite")
        name, fingerprint = texts(fields["model"])
        return cls(names, centres, (name, fingerprint))


def mean_embeddings(
    embeddings: np.ndarray, owner: np.ndarray, speakers: int, *, least: int = MIN_UTTERANCES
) -> np.ndarray:
    """Speakers' mean embeddings of unit length [S, D]; nan for one with fewer than `least`.

    Args:
      embeddings: [U, D] of unit length; nan where there is none.
      owner: [U], each utterance's speaker.
    """
    fine = np.isfinite(embeddings).all(axis=1)
    able = np.flatnonzero(np.bincount(owner[fine], minlength=speakers) >= least)
    means = np.full((speakers, embeddings.shape[1]), np.nan)
    if len(able):
        number = np.full(speakers, -1)
        number[able] = np.arange(len(able))
        chosen = fine & (number[owner] >= 0)
        means[able] = speaker_means(embeddings[chosen], number[owner[chosen]])
    return means


def fit_clusters(
    embeddings: np.ndarray,
    model: tuple[str, str],
    *,
    clusters: int = CLUSTERS,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> Clusters:
    """k-means with several beginnings, of which the best is kept.

    Args:
      embeddings: [S, D] of unit length; rows of nan are left out.

    Raises:
      InputError: there are fewer speakers than clusters.
    """
    points = embeddings[np.isfinite(embeddings).all(axis=1)]
    if len(points) < clusters:
        raise InputError(
            f"{len(points):,} discovery speakers with {MIN_UTTERANCES} utterances or more cannot "
            f"make {clusters:,} clusters: give more speakers, or fewer --clusters."
        )
    found = _k_means(points, clusters, restarts, seed)
    size = np.bincount(found.labels_, minlength=clusters)
    order = np.argsort(-size, kind="stable")
    width = len(str(clusters))
    names = tuple(f"voices-{k:0{width}d}" for k in range(1, clusters + 1))
    return Clusters(names, found.cluster_centers_[order].astype(np.float32), model)


def stability(
    clusters: Clusters,
    embeddings: np.ndarray,
    *,
    repeats: int = RECLUSTERINGS,
    restarts: int = RESTARTS,
    seed: int = 0,
) -> float:
    """How much of the clusters other speakers would have given: the mean adjusted Rand index
    between them and clusterings of resampled speakers (drawn with replacement), over all speakers.

    Args:
      embeddings: [S, D] that the clusters were made of; rows of nan are left out.

    Returns:
      1 where every clustering parts the speakers alike, about 0 where as chance would.
    """
    from sklearn.metrics import adjusted_rand_score

    points = embeddings[np.isfinite(embeddings).all(axis=1)]
    here = clusters.nearest(points)
    rng = np.random.default_rng(seed)
    found = []
    for repeat in range(repeats):
        drawn = points[rng.integers(len(points), size=len(points))]
        other = _k_means(drawn, len(clusters.names), restarts, seed + 1 + repeat)
        found.append(adjusted_rand_score(here, other.predict(points)))
    return float(np.mean(found))


def _k_means(points: np.ndarray, clusters: int, restarts: int, seed: int) -> Any:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Fewer distinct points than clusters, where speakers were drawn twice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        method: Any = KMeans  # whose declared types know only "auto" for a number of restarts
        return method(clusters, n_init=restarts, random_state=seed).fit(points)
