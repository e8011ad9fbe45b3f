"""Clusters of voices: means, nearest centres, stability."""

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.fairness.clusters import Clusters, fit_clusters, mean_embeddings, stability
from parley.fairness.population import Population

MODEL = ("speaker-tiny", "0f")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def voices(per: int, seed: int = 0, spread: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [4 per, 8] around four directions, and which."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(4), per)
    return unit(np.eye(8)[which] + rng.normal(0, spread, (4 * per, 8))), which


def test_means_of_speakers():
    rng = np.random.default_rng(0)
    embeddings = unit(rng.normal(size=(40, 8)))
    owner = np.repeat([0, 1, 2, 3], [5, 4, 11, 20])
    embeddings[[0, 12]] = np.nan  # speaker 0 keeps four
    means = mean_embeddings(embeddings, owner, 5)
    assert np.isnan(means).all(axis=1).tolist() == [True, True, False, False, True]
    for s in (2, 3):
        mean = np.nanmean(embeddings[owner == s], axis=0)
        np.testing.assert_allclose(means[s], mean / np.linalg.norm(mean), atol=1e-12)
    assert np.isnan(mean_embeddings(embeddings[:3], owner[:3], 2)).all()


def test_clusters_are_found_and_new_speakers_are_of_the_nearest():
    embeddings, which = voices(30)
    embeddings[5] = np.nan
    clusters = fit_clusters(embeddings, MODEL, clusters=4)
    assert clusters.names == ("voices-1", "voices-2", "voices-3", "voices-4")
    index = clusters.nearest(embeddings)
    assert index[5] == -1
    fine = np.arange(120) != 5
    pairs = set(zip(which[fine].tolist(), index[fine].tolist(), strict=True))
    assert len(pairs) == 4
    size = np.bincount(index[fine])
    assert (np.diff(size) <= 0).all()
    new, whose = voices(10, seed=1)
    assert set(zip(whose.tolist(), clusters.nearest(new).tolist(), strict=True)) == pairs
    distances = ((new[:, None] - clusters.centres[None].astype(float)) ** 2).sum(axis=2)
    assert (clusters.nearest(new) == distances.argmin(axis=1)).all()
    again = fit_clusters(embeddings, MODEL, clusters=4)
    np.testing.assert_array_equal(clusters.centres, again.centres)


def test_examples_are_the_members_nearest_to_the_centre():
    embeddings, _ = voices(30)
    clusters = fit_clusters(embeddings, MODEL, clusters=4)
    names = tuple(f"s{i:03d}" for i in range(120))
    population = Population(names, np.arange(120), {}, embeddings=embeddings)
    index = clusters.assign(population)
    for k, found in enumerate(clusters.examples(population, 3)):
        distance = ((embeddings - clusters.centres[k].astype(float)) ** 2).sum(axis=1)
        members = np.flatnonzero(index == k)
        expected = members[np.argsort(distance[members])[:3]]
        assert found == tuple(names[i] for i in expected)


def test_stability_tells_clusters_from_none():
    found = []
    for spread in (0.1, 50.0):  # four directions; nothing but noise
        embeddings, _ = voices(40, spread=spread)
        clusters = fit_clusters(embeddings, MODEL, clusters=4)
        found.append(stability(clusters, embeddings, repeats=3, restarts=3))
    assert found[0] == pytest.approx(1.0)
    assert found[1] < 0.5


def test_too_few_speakers():
    embeddings, _ = voices(2)
    with pytest.raises(InputError, match=r"8 discovery speakers .* cannot make 9 clusters"):
        fit_clusters(embeddings, MODEL, clusters=9)
    clusters = Clusters(("a",), np.zeros((1, 8), np.float32), MODEL)
    with pytest.raises(ValueError, match="no embeddings"):
        clusters.assign(Population(("ann",), np.zeros(1, int), {}))
