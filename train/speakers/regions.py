"""Regions of the embedding space: k-means over the training speakers' means.

Warm-started, so that a region keeps its number while the space moves, and with it what the
adversary has learned of it.
"""

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2

ITERATIONS = 20


def speaker_means(embeddings: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Means of unit length [S, D] of the speakers, of whom each has an embedding that is finite.

    Args:
      embeddings: [U, D]; rows that are not finite are left out.
      speakers: [U], numbers from 0 on.
    """
    fine = np.isfinite(embeddings).all(axis=1)
    embeddings, speakers = embeddings[fine], speakers[fine]
    sums = np.zeros((int(speakers.max()) + 1, embeddings.shape[1]))
    np.add.at(sums, speakers, embeddings)
    sums = sums[np.bincount(speakers, minlength=len(sums)) > 0]
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def find_regions(means: np.ndarray, before: np.ndarray, *, seed: int) -> np.ndarray:
    """Centroids [K, D] float32.

    Args:
      means: [S, D].
      before: [K, D], the centroids so far; all zeros for none, then k-means++ chooses.
      seed: of that choice.

    A region that nobody lies in keeps its centroid. With fewer speakers than regions, those that
    are over lie on speakers too.
    """
    means = means.astype(np.float64)
    count = len(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty clusters, which keep their place
        if before.any():
            start = before.astype(np.float64)
            found, _ = kmeans2(means, start, iter=ITERATIONS, minit="matrix")
        else:
            rng = np.random.default_rng(seed)
            repeats = -(-count // len(means))
            points = np.concatenate([means] * max(1, repeats))
            found, _ = kmeans2(points, count, iter=ITERATIONS, minit="++", rng=rng)
    return found.astype(np.float32)
