"""Ranking on some speakers and reporting on others; the gap, and the gap by chance."""

import json
from itertools import combinations

import numpy as np
import pytest

from parley.fairness.cohorts import column_cohorts
from parley.fairness.discovery import Discovery, Selection, rank_cohorts
from parley.fairness.gaps import bottom_top
from parley.fairness.scores import DISCOVERY, RANKING, REPORT, Scores, split_speakers
from parley.fairness.statistics import shrunken_rates
from people import simulated

NAMES = ("a", "b", "c", "d", "e")
RATES = np.array([0.10, 0.20, 0.12, 0.06, 0.10])


def town(seed: int = 0, sizes: tuple[int, ...] = (120, 100, 110, 130, 12)) -> Scores:
    """Speakers of cohorts a to e, of whom the last has too few; every 50th is of none."""
    rng = np.random.default_rng(seed)
    cohort = np.repeat(np.arange(len(sizes)), sizes)
    rate = RATES[cohort] * np.exp(rng.normal(-0.08, 0.4, len(cohort)))
    words = rng.integers(200, 400, len(cohort))
    errors = rng.poisson(words * rate)
    labels = [NAMES[k] if i % 50 else None for i, k in enumerate(cohort)]
    return simulated(errors, words, cohort=labels)


def found_in(scores: Scores, selection: Selection | None = None) -> Discovery:
    cohorts = column_cohorts(scores.population, ["cohort"])
    splits = split_speakers(scores.speakers)
    given = selection or Selection()
    return rank_cohorts(scores, cohorts, splits, selection=given, permutations=300)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return town()


@pytest.fixture(scope="module")
def found(scores: Scores) -> Discovery:
    return found_in(scores)


def of_split(scores: Scores, name: str, split: int) -> np.ndarray:
    labels = scores.population.labels("cohort")
    own = labels.index == labels.names.index(name)
    return own & (split_speakers(scores.speakers) == split)


def test_counts_and_rates_are_those_of_each_split(scores: Scores, found: Discovery):
    assert {c.name for c in found.cohorts} == set(NAMES)
    for cohort in found.cohorts:
        for split, tally in (
            (DISCOVERY, cohort.discovery),
            (RANKING, cohort.ranking),
            (REPORT, cohort.report),
        ):
            own = of_split(scores, cohort.name, split)
            words, errors = scores.words[own].sum(), scores.errors[own].sum()
            assert tally == (own.sum(), 2 * own.sum(), words, errors)
        assert cohort.report_wer.value == pytest.approx(cohort.report.wer)
        assert cohort.report_wer.low < cohort.report.wer < cohort.report_wer.high
    assert found.without_cohort == sum(i % 50 == 0 for i in range(472))


def test_the_order_is_that_of_shrunken_rates_of_ranking_speakers(scores: Scores, found: Discovery):
    assert [c.rank for c in found.cohorts] == [1, 2, 3, 4, None]
    assert found.cohorts[0].name == "b"
    assert found.cohorts[3].name == "d"
    assert found.cohorts[4].name == "e"
    assert np.isnan(found.cohorts[4].shrunken)
    ranking = [of_split(scores, name, RANKING) for name in "abcd"]
    errors, words = (
        np.stack([np.where(own, x, 0) for own in ranking], axis=1)[np.any(ranking, axis=0)]
        for x in (scores.errors, scores.words)
    )
    expected = dict(zip("abcd", shrunken_rates(errors, words).rates, strict=True))
    assert {c.name: c.shrunken for c in found.cohorts[:4]} == pytest.approx(expected)
    assert expected == dict(sorted(expected.items(), key=lambda item: item[0]))
    assert [c.name for c in found.cohorts[:4]] == sorted(expected, key=lambda n: -expected[n])


def changed(scores: Scores, split: int) -> Scores:
    """Other errors for the speakers of a split."""
    rng = np.random.default_rng(9)
    own = split_speakers(scores.speakers) == split
    counts = scores.counts.copy()
    counts[: len(own), 0] = np.where(own, rng.integers(0, 200, len(own)), counts[: len(own), 0])
    return Scores(scores.source, scores.population, scores.ids, counts, scores.durations)


def test_no_split_tells_another_one_anything(scores: Scores, found: Discovery):
    other = found_in(changed(scores, REPORT))
    assert other.ranking == found.ranking
    assert [c.shrunken for c in other.cohorts[:4]] == [c.shrunken for c in found.cohorts[:4]]
    assert other.gap != found.gap
    other = found_in(changed(scores, DISCOVERY))
    assert (other.gap, other.ranking) == (found.gap, found.ranking)
    other = found_in(changed(scores, RANKING))
    assert {c.name: c.report_wer for c in other.cohorts} == {
        c.name: c.report_wer for c in found.cohorts
    }


def test_the_gap_is_of_pooled_report_speakers(scores: Scores, found: Discovery):
    assert (found.named("bottom"), found.named("top")) == (["b"], ["d"])
    assert found.gap is not None
    bottom, top = (of_split(scores, name, REPORT) for name in "bd")
    rates = [scores.errors[own].sum() / scores.words[own].sum() for own in (bottom, top)]
    assert found.gap.bottom.value == pytest.approx(rates[0])
    assert found.gap.points.value == pytest.approx(rates[0] - rates[1])
    assert found.gap.of_top.value == pytest.approx((rates[0] - rates[1]) / rates[1])
    assert found.gap.of_bottom.value == pytest.approx((rates[0] - rates[1]) / rates[0])
    report = split_speakers(scores.speakers) == REPORT
    assert found.share["speakers"] == pytest.approx(bottom.sum() / report.sum())
    assert found.share["words"] == pytest.approx(
        scores.words[bottom].sum() / scores.words[report].sum()
    )
    # A difference that is there is told from chance.
    assert found.gap.p == pytest.approx(1 / 301)
    assert found.gap.chance[1] < found.gap.of_top.value
    assert found.extremes is not None
    assert found.extremes.omnibus_p == pytest.approx(1 / 301)


@pytest.mark.parametrize(
    ("selection", "bottom", "top"),
    [
        (Selection(share=0.5), 2, 2),
        (Selection(share=0.3), 2, 2),
        (Selection(share=0.05, share_of="words"), 1, 1),
        (Selection(top_k=2), 2, 2),
        (Selection(top_k=9), 3, 1),
        (Selection(min_speakers=1), 1, 1),
        (Selection(min_speakers=30), 1, 1),
    ],
)
def test_selections(scores: Scores, selection: Selection, bottom: int, top: int):
    found = found_in(scores, selection)
    assert (len(found.named("bottom")), len(found.named("top"))) == (bottom, top)
    least = selection.min_speakers
    for c in found.cohorts:
        assert (c.rank is None) == (min(c.ranking.speakers, c.report.speakers) < least)
    if selection.top_k is None and bottom + top < len(found.ranking.groups):
        sizes = [getattr(c.ranking, selection.share_of) for c in found.cohorts if c.rank]
        share = np.cumsum(sizes) / sum(sizes)
        assert share[bottom - 1] >= selection.share
        assert bottom == 1 or share[bottom - 2] < selection.share


def test_the_lower_bound_puts_first_what_is_surely_bad():
    """A few speakers with a terrible mean of which one is all the cause, and many who are bad."""
    many = [0.2] * 200
    few = [0.1] * 29 + [6.0]
    rest = [0.1] * 200
    rates = np.array(many + few + rest)
    words = np.full(len(rates), 500)
    labels = ["many"] * 200 + ["few"] * 30 + ["rest"] * 200
    scores = simulated((rates * words).astype(int), words, cohort=labels)
    splits = np.full(len(rates), RANKING)
    splits[::2] = REPORT
    splits[229] = RANKING
    cohorts = column_cohorts(scores.population, ["cohort"])
    order = {
        by: rank_cohorts(
            scores, cohorts, splits, selection=Selection(rank_by=by, min_speakers=5), permutations=9
        ).ranking.order
        for by in ("shrunken", "lcb")
    }
    assert order["lcb"][0] == "many"
    assert set(order["shrunken"]) == {"many", "few", "rest"}


def test_without_two_cohorts_there_is_no_gap():
    found = found_in(town(sizes=(100, 9, 8, 7)))
    assert [c.rank for c in found.cohorts] == [1, None, None, None]
    assert found.gap is None
    assert found.extremes is None
    assert found.ranking.groups == {"a": "middle"}


def test_the_record_is_json(found: Discovery):
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert record["bottom"] == ["b"]
    assert record["cohorts"][4]["rank"] is None
    assert record["cohorts"][4]["shrunken"] is None
    assert found.gap is not None
    assert record["gap"]["of_top"]["value"] == pytest.approx(100 * found.gap.of_top.value, abs=0.01)


def test_the_gap_by_chance_is_that_of_all_arrangements():
    errors = np.array([9.0, 5, 1, 4, 2, 8, 3])
    words = np.array([50.0, 40, 30, 60, 50, 45, 35])
    group = np.array([0, 0, 1, 1, 1, 2, 2])
    matrix = [x[:, None] * (group[:, None] == np.arange(3)) for x in (errors, words)]
    found = bottom_top(*matrix, permutations=20_000)
    gaps = []
    for low in combinations(range(7), 2):
        for high in combinations(set(range(7)) - set(low), 3):
            b, t = (errors[list(s)].sum() / words[list(s)].sum() for s in (low, high))
            gaps.append((b - t) / t)
    share = np.mean(np.array(gaps) >= found.of_top.value - 1e-12)
    assert found.p == pytest.approx(share, abs=0.01)
    expected = np.quantile(gaps, [0.025, 0.975])
    assert found.chance == pytest.approx(tuple(expected), abs=0.06)


def test_a_top_without_errors():
    errors, words = np.array([3.0, 1, 0, 0]), np.full(4, 50.0)
    matrix = [
        x[:, None] * (np.array([0, 0, 1, 1])[:, None] == np.arange(3)) for x in (errors, words)
    ]
    found = bottom_top(*matrix, permutations=200)
    assert found.of_top.value == np.inf
    assert 0.1 < found.p < 0.3  # of the six arrangements, this one alone has all of the errors
    assert json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.slow
def test_where_nobody_differs_one_gap_in_twenty_is_taken_for_one():
    rng = np.random.default_rng(0)
    p, extreme = [], []
    for _ in range(60):
        rate = 0.1 * np.exp(rng.normal(0, 0.4, 400))
        words = rng.integers(100, 500, 400)
        labels = [f"c{k}" for k in rng.integers(0, 6, 400)]
        scores = simulated(rng.poisson(rate * words), words, cohort=labels)
        splits = split_speakers(scores.speakers, seed=len(p))
        cohorts = column_cohorts(scores.population, ["cohort"])
        few = Selection(min_speakers=8)
        found = rank_cohorts(scores, cohorts, splits, selection=few, permutations=199)
        assert found.gap is not None
        assert found.extremes is not None
        p.append(found.gap.p)
        extreme.append(found.extremes.p)
    for values in (np.array(p), np.array(extreme)):
        # Three standard deviations of a share and of a mean of 60.
        assert (values <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
        assert abs(values.mean() - 0.5) < 3 * np.sqrt(1 / 12 / 60)
