"""A million speakers on the map: within a minute, and by the rules; fewer, ranked and reported."""

from typing import NamedTuple

import numpy as np
import pytest

from parley.fairness.discovery import Selection, rank_cohorts
from parley.fairness.population import Population
from parley.fairness.regions import fit_regions
from parley.fairness.scores import DISCOVERY, Scores, split_speakers

pytestmark = pytest.mark.soak


class Crowd(NamedTuple):
    """Of speakers [S]."""

    longitude: np.ndarray
    latitude: np.ndarray
    errors: np.ndarray
    words: np.ndarray


def crowd(count: int) -> Crowd:
    """Speakers of a country of two true rates, 8.0 and 13.2 %, who differ besides."""
    rng = np.random.default_rng(0)
    longitude, latitude = rng.uniform(-120, -70, count), rng.uniform(25, 50, count)
    words = rng.poisson(300, count) + 1
    bad = (longitude > -90) & (latitude < 35)
    rate = np.where(bad, 0.132, 0.08) * np.exp(rng.normal(-0.08, 0.4, count))
    return Crowd(longitude, latitude, rng.binomial(words, np.minimum(rate, 1)), words)


@pytest.mark.timeout(60)
def test_a_million_speakers_within_a_minute():
    people = crowd(1_000_000)
    regions = fit_regions(*people)
    index = regions.locate(people.longitude, people.latitude)
    assert len(regions.names) == 126
    assert (index >= 0).all()
    assert np.bincount(index).min() >= 50
    assert np.bincount(index, people.words).min() >= 5000


@pytest.mark.timeout(1200)
def test_the_bad_quarter_is_found():
    people = crowd(100_000)
    count = len(people.words)
    names = tuple(f"s{i:07d}" for i in range(count))
    counts = np.zeros((count, 4), np.int64)
    counts[:, 0], counts[:, 3] = people.errors, people.words
    columns = {"longitude": people.longitude.tolist(), "latitude": people.latitude.tolist()}
    population = Population(names, np.arange(count), columns)
    scores = Scores("simulated", population, names, counts, np.ones(count))
    splits = split_speakers(names)
    kept = splits == DISCOVERY
    regions = fit_regions(*people[:2], people.errors * kept, people.words * kept)
    by_words = Selection(share_of="words")
    found = rank_cohorts(scores, regions, splits, selection=by_words, permutations=200)
    assert found.gap is not None
    # What is called bottom is bad indeed, and not by being chosen for it.
    assert found.gap.bottom.value == pytest.approx(0.132, abs=0.004)
    assert found.gap.top.value == pytest.approx(0.080, abs=0.004)
    assert found.gap.p < 0.01
    worst = max(found.cohorts, key=lambda c: c.discovery.wer)
    assert worst.discovery.wer > worst.report.wer
