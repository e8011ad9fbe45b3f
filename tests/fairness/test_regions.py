"""The tree over the map, against splits that are tried one by one."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.fairness.population import population_of
from parley.fairness.regions import Criterion, Regions, coordinates, fit_regions


class People(NamedTuple):
    """Of speakers [S]; coordinates are multiples of a half, so that many are equal."""

    longitude: np.ndarray
    latitude: np.ndarray
    errors: np.ndarray
    words: np.ndarray

    def of(self, chosen: np.ndarray) -> "People":
        return People(*(x[chosen] for x in self))


def people(seed: int, count: int = 60) -> People:
    rng = np.random.default_rng(seed)
    longitude, latitude = (rng.integers(-40, 40, (2, count)) / 2).astype(float)
    words = rng.integers(20, 200, count)
    rate = np.where((longitude > 3) & (latitude < 5), 0.2, 0.1)
    return People(longitude, latitude, rng.binomial(words, rate), words)


def impurity(p: People, criterion: Criterion) -> float:
    """Words times the variance of the rates, or half their Poisson deviance."""
    rates = p.errors / p.words
    mean = p.errors.sum() / p.words.sum()
    if criterion == "squared_error":
        return float((p.words * (rates - mean) ** 2).sum())
    logs = np.log(np.where(rates > 0, rates / mean, 1.0)) if mean else 0.0
    return float((p.words * (rates * logs - (rates - mean))).sum())


def splits(p: People, least: tuple[int, int]) -> Iterator[np.ndarray]:
    """All sides that a straight cut gives, each with enough speakers and words."""
    for axis in (p.longitude, p.latitude):
        for edge in np.unique(axis)[:-1]:
            low = axis <= edge
            if all(s.sum() >= least[0] and p.words[s].sum() >= least[1] for s in (low, ~low)):
                yield low


def best_split(p: People, least: tuple[int, int], criterion: Criterion):
    def gain(low: np.ndarray) -> float:
        sides = (impurity(p.of(side), criterion) for side in (low, ~low))
        return impurity(p, criterion) - sum(sides)

    found = [(gain(low), low) for low in splits(p, least)]
    if criterion == "poisson":  # a side without errors has no logarithm, and is not made
        found = [f for f in found if p.errors[f[1]].any() and p.errors[~f[1]].any()]
    return max(found, key=lambda f: f[0], default=None)


def grown(p: People, least: tuple[int, int], criterion: Criterion, leaves: int) -> set[frozenset]:
    """The best-first tree, as the sets of speakers in its leaves."""
    parts = [np.arange(len(p.words))]
    while len(parts) < leaves:
        found = [(best_split(p.of(part), least, criterion), part) for part in parts]
        able = [(f[0], f[1], part) for f, part in found if f is not None and f[0] > 1e-9]
        if not able:
            break
        _, low, part = max(able, key=lambda f: f[0])
        parts = [x for x in parts if x is not part] + [part[low], part[~low]]
    return {frozenset(part.tolist()) for part in parts}


@pytest.mark.parametrize("criterion", ["squared_error", "poisson"])
@pytest.mark.parametrize("seed", range(6))
def test_the_tree_is_the_best_first_one(seed: int, criterion: Criterion):
    p = people(seed)
    least = (7, 500)
    for leaves in (2, 5):
        regions = fit_regions(
            *p, max_regions=leaves, min_speakers=7, min_words=500, criterion=criterion
        )
        index = regions.locate(p.longitude, p.latitude)
        parts = {frozenset(np.flatnonzero(index == k).tolist()) for k in range(len(regions.names))}
        assert parts == grown(p, least, criterion, leaves)


def test_squared_error_parts_the_most_different_sides():
    """The gain is n m / (n + m) times the squared difference of the sides' rates."""
    p = people(0)
    regions = fit_regions(*p, max_regions=2, min_speakers=5, min_words=0)
    low = regions.locate(p.longitude, p.latitude) == 0

    def worth(side: np.ndarray) -> float:
        n, m = p.words[side].sum(), p.words[~side].sum()
        rates = p.errors[side].sum() / n, p.errors[~side].sum() / m
        return float(n * m / (n + m) * (rates[0] - rates[1]) ** 2)

    assert worth(low) == pytest.approx(max(map(worth, splits(p, (5, 0)))), rel=1e-12)


def test_every_region_has_its_least_and_no_place_is_in_two():
    p = people(1, 4000)
    regions = fit_regions(*p, min_speakers=40, min_words=5000)
    index = regions.locate(p.longitude, p.latitude)
    assert (index >= 0).all()
    assert 10 < len(regions.names) <= 126
    assert np.bincount(index).min() >= 40
    assert np.bincount(index, p.words).min() >= 5000
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-180, 180, 2000), rng.uniform(-90, 90, 2000)
    x[:500], y[:500] = p.longitude[:500], p.latitude[:500]  # on or near the edges
    west, east, south, north = regions.boxes.T[:, :, None]
    inside = (x > west) & (x <= east) & (y > south) & (y <= north)
    assert (inside.sum(axis=0) == 1).all()
    assert (inside.argmax(axis=0) == regions.locate(x, y)).all()


def test_a_region_of_exactly_the_least_words_is_made():
    longitude = np.array([0.0, 0, 1, 1])
    words = np.array([300, 200, 250, 250])
    found = fit_regions(
        longitude, longitude, np.array([30, 20, 5, 5]), words, min_speakers=2, min_words=500
    )
    assert found.locate(longitude, longitude).tolist() == [0, 0, 1, 1]
    with pytest.raises(InputError, match="make one region only"):
        fit_regions(
            longitude, longitude, np.array([30, 20, 5, 5]), words, min_speakers=2, min_words=501
        )


@pytest.mark.parametrize("criterion", ["squared_error", "poisson"])
def test_one_region_only_is_said(criterion: Criterion):
    p = people(0)
    sentence = "the 60 discovery speakers with coordinates, .* make one region only, for each needs"
    for given, least in (
        (p, (31, 0)),
        (p._replace(errors=np.zeros(60, int)), (5, 0)),
        (p._replace(errors=p.words), (5, 0)),
        (p._replace(longitude=np.ones(60), latitude=np.ones(60)), (5, 0)),
    ):
        with pytest.raises(InputError, match=sentence):
            fit_regions(*given, min_speakers=least[0], min_words=least[1], criterion=criterion)


def test_who_has_no_place_or_no_words_is_left_out():
    p = people(2, 300)
    missing = np.zeros(300, bool)
    missing[::7] = True
    silent = np.zeros(300, bool)
    silent[::11] = True
    longitude = np.where(missing, np.nan, p.longitude)
    words, errors = np.where(silent, 0, p.words), np.where(silent, 0, p.errors)
    found = fit_regions(longitude, p.latitude, errors, words, min_speakers=20, min_words=0)
    kept = ~missing & ~silent
    alone = fit_regions(*p.of(kept), min_speakers=20, min_words=0)
    np.testing.assert_array_equal(found.boxes, alone.boxes)
    assert (found.locate(longitude, p.latitude) == -1).tolist() == missing.tolist()


def test_coordinates_of_speakers():
    rows = [
        ("ann", {"longitude": -3.2, "latitude": "55.9"}),
        ("bob", {"longitude": 4.0}),
        ("cy", {"longitude": None, "latitude": 51.0}),
        ("ann", {}),
    ]
    population = population_of(rows)
    longitude, latitude = coordinates(population)
    np.testing.assert_array_equal(longitude, [-3.2, np.nan, np.nan])
    np.testing.assert_array_equal(latitude, [55.9, np.nan, np.nan])
    regions = Regions(("west", "east"), np.array([[-np.inf, 0, -90, 90], [0, np.inf, -90, 90.0]]))
    assert regions.assign(population).tolist() == [0, -1, -1]
    wrong = population_of([*rows, ("dee", {"longitude": 356.8, "latitude": 55.9})])
    with pytest.raises(InputError, match=r"longitude of speaker dee is 356.8: give degrees from"):
        coordinates(wrong)
    with pytest.raises(InputError, match="no utterance has a column 'longitude'"):
        coordinates(population_of([("ann", {"accent": "rp"})]))
