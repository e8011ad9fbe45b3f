"""A report's numbers are those that its parts compute alone, of speakers who may be compared."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from crowds import repaired, scored_rows, write_scores
from parley.data.cohorts import Assignment
from parley.data.errors import InputError
from parley.fairness.clusters import Clusters
from parley.fairness.cohorts import (
    ColumnCohorts,
    Ranking,
    choosers_of,
    read_choosers,
    write_choosers,
)
from parley.fairness.permutation import permutation_test
from parley.fairness.regions import Regions
from parley.fairness.report import report
from parley.fairness.report_data import (
    Systems,
    cohort_grouping,
    column_grouping,
    covariate,
    missing_metadata,
    pair_systems,
)
from parley.fairness.report_groups import Options
from parley.fairness.report_ratios import adjust
from parley.fairness.scores import Scores, read_scores
from parley.metrics.bootstrap import paired_speaker_bootstrap, speaker_bootstrap

QUICK = Options(draws=500, permutations=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report")
    rows = scored_rows()
    write_scores(made / "a.jsonl", rows)
    write_scores(made / "b.jsonl", repaired(rows)[::-1])  # in another order
    return made


@pytest.fixture(scope="module")
def systems(folder: Path) -> Systems:
    return pair_systems([read_scores(folder / n) for n in ("a.jsonl", "b.jsonl")], ["A", "B"])


@pytest.fixture(scope="module")
def record(systems: Systems) -> dict:
    groupings = [column_grouping(systems.population, c) for c in ("accent", "gender")]
    options = Options(draws=500, permutations=200, adjust_for=("noise",))
    return report(systems, groupings, options)


def loaded(path: Path, rows: list[dict]) -> Scores:
    return read_scores(write_scores(path, rows))


def test_utterances_meet_by_speaker_and_name(systems: Systems):
    rows = scored_rows()
    by_id = {row["id"]: row["errors"] for row in repaired(rows)}
    order = systems.scores.ids
    assert systems.counts[1, :, :3].sum(axis=1).tolist() == [by_id[i] for i in order]
    assert systems.left_out == 0
    assert systems.kinds.sum() == sum(row["errors"] for row in rows) + sum(by_id.values())


def test_only_what_all_have_scored_is_compared(tmp_path: Path):
    rows = scored_rows(utterances=2)
    found = pair_systems(
        [loaded(tmp_path / "a", rows[3:]), loaded(tmp_path / "b", rows[:-2])], ["A", "B"]
    )
    assert found.left_out == 5
    assert found.scores.ids == tuple(row["id"] for row in rows[3:-2])
    assert found.counts.shape[1] == len(rows) - 5 == len(found.scores.durations)
    assert "s0" not in found.scores.speakers
    # Whoever is left keeps his metadata.
    labels = found.population.labels("accent")
    of = {row["speaker"]: row["metadata"]["accent"] for row in rows}
    names = [labels.names[i] for i in labels.index]
    assert names == [of[s] for s in found.scores.speakers]


def test_systems_that_cannot_be_compared(tmp_path: Path):
    rows = scored_rows(utterances=1)
    other = [{**row, "words": row["words"] + 1} for row in rows]
    a = loaded(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError, match="do not agree on the reference of 135 utterances"):
        pair_systems([a, loaded(tmp_path / "b.jsonl", other)], ["A", "B"])
    strangers = loaded(tmp_path / "c.jsonl", scored_rows(utterances=1, prefix="t"))
    with pytest.raises(InputError, match="no utterance in common"):
        pair_systems([a, strangers], ["A", "B"])
    with pytest.raises(InputError, match="has utterance s0-0 twice"):
        pair_systems([loaded(tmp_path / "d.jsonl", [*rows, rows[0]])], ["A"])


def test_overall_numbers_are_those_of_the_plain_bootstrap(systems: Systems, record: dict):
    errors = systems.kinds.sum(axis=-1)
    words, names = systems.words.tolist(), list(systems.scores.speakers)
    low, high = speaker_bootstrap(errors[0].tolist(), words, names, draws=500)
    overall = record["overall"][0]
    assert overall["wer"] == round(100 * errors[0].sum() / sum(words), 2)
    assert (overall["wer_low"], overall["wer_high"]) == (round(100 * low, 2), round(100 * high, 2))
    kinds = ("substitutions", "deletions", "insertions")
    assert sum(overall[k] for k in kinds) == pytest.approx(overall["wer"], abs=0.02)
    pair = paired_speaker_bootstrap(errors[1].tolist(), errors[0].tolist(), words, names, draws=500)
    change = record["overall_changes"][0]
    assert [change["points_low"], change["points_high"]] == [round(100 * x, 2) for x in pair]
    assert change["not_inferior"] is True


def test_counts_are_those_of_the_lines(record: dict):
    rows = scored_rows()
    spoken = Counter(row["metadata"]["accent"] for row in rows)
    words = Counter()
    for row in rows:
        words[row["metadata"]["accent"]] += row["words"]
    for group in record["groupings"][0]["groups"]:
        assert group["utterances"] == spoken[group["name"]]
        assert group["words"] == words[group["name"]]
        assert group["hours"] == round(0.4 * group["words"] / 3600, 3)
    data = record["data"]
    assert data["utterances"] == len(rows)
    assert data["words"] == sum(words.values())
    without = sum("gender" not in row["metadata"] for row in rows)
    assert record["missing"]["gender"] == without > 0
    assert record["groupings"][1]["without_group"] == without / 5


def test_small_groups_are_shown_and_enter_nothing(record: dict):
    groups = record["groupings"][0]["groups"]
    assert [g["name"] for g in groups] == ["alto", "tenore", "basso", "raro"]
    assert [g["rank"] for g in groups] == [1, 2, 3, None]
    small = groups[-1]
    assert small["shrunken"] is None
    assert small["role"] == ""
    assert small["ratios"] == [None, None]
    assert small["systems"][0]["wer_low"] < small["systems"][0]["wer"]
    assert record["groupings"][0]["comparisons"][0]["others"] == 2
    assert record["groupings"][0]["ranked"] == 3


def test_disparity_is_that_of_its_parts(systems: Systems, record: dict):
    accents = column_grouping(systems.population, "accent")
    small = accents.names.index("raro")
    index = np.where(accents.index == small, -1, accents.index)
    errors = systems.kinds.sum(axis=-1)
    for k, found in enumerate(record["groupings"][0]["systems"]):
        test = permutation_test(errors[k], systems.words, index, permutations=200)
        assert found["of_best"] == round(100 * test.relative, 2)
        assert found["points"] == round(100 * test.gap, 2)
        assert found["omnibus_p"] == pytest.approx(test.p, abs=0.03)  # other permutations
    first, second = record["groupings"][0]["systems"]
    assert first["worst"] == "alto"
    assert first["best"] == "basso"
    assert first["omnibus_p"] == pytest.approx(1 / 201, abs=1e-4)
    assert second["of_best"] < first["of_best"]
    assert first["variance_corrected"] < first["variance"]
    # Who is chosen for being the worst cannot be tested for being it.
    assert "p" not in first["bottom_top"]


def test_the_repair_and_its_harm_show(record: dict):
    grouping = record["groupings"][0]
    found = grouping["comparisons"][0]
    assert found["targets"] == ["alto"]
    assert (found["worse"], found["surely_worse"]) == (0, [])
    assert found["gap_points_high"] < 0
    assert found["bottom_relative_high"] < -25
    alto = grouping["groups"][0]
    assert alto["changes"][0]["relative"] == found["bottom_relative"]
    before, after = (s["bottom_top"]["points"]["value"] for s in grouping["systems"])
    assert found["gap_points"] == pytest.approx(after - before, abs=0.011)


def test_a_group_that_is_harmed_is_named(tmp_path: Path):
    rows = scored_rows()
    worse = [
        {**r, "insertions": r["insertions"] + 1} if r["metadata"]["accent"] == "tenore" else r
        for r in rows
    ]
    both = [loaded(tmp_path / "a", rows), loaded(tmp_path / "b", worse)]
    systems = pair_systems(both, ["A", "B"])
    made = report(systems, [column_grouping(systems.population, "accent")], QUICK)
    found = made["groupings"][0]["comparisons"][0]
    assert found["surely_worse"] == ["tenore"]
    assert (found["worse"], found["worse_share"]) == (1, 50.0)
    assert made["overall_changes"][0]["not_inferior"] is False


def test_rate_ratios_find_the_accent_at_equal_noise(record: dict):
    grouping = record["groupings"][0]
    assert grouping["regression"]["reference"] == "basso"  # the one with the most words
    alto, tenore, basso, _ = grouping["groups"]
    first = alto["ratios"][0]
    assert 1.6 < first["ratio"] < 2.9
    assert first["low"] > 1
    assert first["p_holm"] >= first["p"]
    assert basso["ratios"] == [None, None]
    assert tenore["ratios"][0]["low"] < 1.25 < tenore["ratios"][0]["high"]
    assert record["tests"] == 2 * 2 + 2 * 1
    assert grouping["regression"]["adjusted_for"] == ["noise"]
    # Speakers were drawn with a standard deviation of 0.3 of the log rate.
    assert grouping["regression"]["systems"][0]["speakers_differ"] == pytest.approx(35, abs=9)


def test_a_covariate_may_be_called_group(tmp_path: Path):
    rows = scored_rows()
    named = [{**r, "metadata": {**r["metadata"], "group": r["metadata"]["noise"]}} for r in rows]
    systems = pair_systems([loaded(tmp_path / "a", named)], ["A"])
    accents = column_grouping(systems.population, "accent")
    ratios = []
    for column in ("noise", "group"):
        options = Options(draws=50, permutations=10, adjust_for=(column,))
        made = report(systems, [accents], options)["groupings"][0]
        ratios.append([g["ratios"] for g in made["groups"]] + made["regression"]["systems"])
    assert ratios[0] == ratios[1]


def test_holms_p_is_over_all_tests():
    tests = [({}, p) for p in (0.01, 0.04, 1e-9)]
    adjust(tests)
    assert [t["p_holm"] for t, _ in tests] == [0.02, 0.04, 0.0001]


def test_what_cannot_be_fitted_says_why(systems: Systems):
    options = Options(draws=100, permutations=20, adjust_for=("accent",))
    made = report(systems, [column_grouping(systems.population, "accent")], options)
    fit = made["groupings"][0]["regression"]["systems"][0]
    assert fit["p"] is None
    assert "depend on each other" in fit["reason"]
    assert made["tests"] == 0


def test_a_faultless_recogniser_has_a_report(tmp_path: Path):
    none = {"substitutions": 0, "deletions": 0, "insertions": 0, "errors": 0}
    rows = [{**row, **none} for row in scored_rows()]
    systems = pair_systems([loaded(tmp_path / "a", rows)] * 2, ["A", "B"])
    made = report(systems, [column_grouping(systems.population, "accent")], QUICK)
    json.dumps(made, allow_nan=False)
    assert made["overall"][0]["wer"] == 0.0
    assert made["overall_changes"][0]["relative"] is None
    assert made["groupings"][0]["systems"][0]["omnibus_p"] == 1.0
    assert "nobody made an error" in made["groupings"][0]["regression"]["systems"][0]["reason"]


def test_too_few_speakers_to_rank_anybody(systems: Systems):
    options = Options(min_speakers=100, draws=50, permutations=10)
    made = report(systems, [column_grouping(systems.population, "accent")], options)
    (found,) = made["groupings"]
    assert found["ranked"] == 0
    assert found["systems"] == [{}, {}]
    assert found["comparisons"] == [{}]


# --- cohorts -------------------------------------------------------------------------------------

ACCENTS = ("alto", "basso", "raro", "tenore")
RANKING = Ranking(
    ("alto", "tenore", "basso", "raro"), {"alto": "bottom", "tenore": "middle", "basso": "top"}
)


def test_speakers_who_found_the_cohorts_are_not_reported(systems: Systems):
    cohorts = ColumnCohorts(ACCENTS, ("accent",))
    choosers = choosers_of([*systems.scores.speakers[::3], "somebody else"])
    grouping = cohort_grouping(systems.population, cohorts, RANKING, choosers=choosers)
    assert grouping.kept.sum() == 135 - 45
    made = report(systems, [grouping], QUICK)["groupings"][0]
    assert sum(g["speakers"] for g in made["groups"]) == 90
    assert "none of the 46 speakers" in made["disjoint"]
    assert "45 of them were in the scores" in made["disjoint"]
    # Named beforehand, so the gap can be tested.
    assert made["named_beforehand"]
    first = made["systems"][0]["bottom_top"]
    assert first["p"] < 0.05
    assert first["chance"][0] < 0 < first["chance"][1]
    assert [g["role"] for g in made["groups"] if g["name"] == "basso"] == ["top"]


def test_choosers_are_kept_without_their_names(tmp_path: Path):
    choosers = choosers_of(["ann", "bob"])
    write_choosers(tmp_path, choosers)
    assert read_choosers(tmp_path) == choosers
    assert choosers.among(["bob", "eve"]).tolist() == [True, False]
    (path,) = tmp_path.iterdir()
    assert "ann" not in path.read_text()
    for damaged in ("[1]", "{}", "[", '"ann"'):
        path.write_text(damaged)
        with pytest.raises(InputError, match="discover again"):
            read_choosers(tmp_path)
    path.unlink()
    assert read_choosers(tmp_path) is None


def test_nothing_is_claimed_of_who_found_them_where_that_is_unknown(systems: Systems):
    cohorts = ColumnCohorts(ACCENTS, ("accent",))
    grouping = cohort_grouping(systems.population, cohorts, RANKING)
    assert "not checked" in grouping.disjoint
    assert grouping.kept.all()


def test_cohorts_that_fit_nobody(systems: Systems):
    cohorts, everyone = ColumnCohorts(ACCENTS, ("accent",)), choosers_of(systems.scores.speakers)
    with pytest.raises(InputError, match="evaluate on other speakers"):
        cohort_grouping(systems.population, cohorts, RANKING, choosers=everyone)
    other = ColumnCohorts(("x", "y"), ("accent",))
    with pytest.raises(InputError, match="check --cohorts"):
        cohort_grouping(systems.population, other, Ranking(("x", "y"), {}))


def test_cohorts_of_voices_come_by_assignment(systems: Systems):
    clusters = Clusters(("one", "two"), np.eye(2, dtype=np.float32), ("m", "f"))
    ranking = Ranking(("two", "one"), {"two": "bottom", "one": "top"})
    with pytest.raises(InputError, match="--assigned"):
        cohort_grouping(systems.population, clusters, ranking)
    halves = {s: ("one", "two")[i % 2] for i, s in enumerate(systems.scores.speakers[:-5])}
    assignment = Assignment(("two", "one"), ranking.groups, halves)
    grouping = cohort_grouping(systems.population, clusters, ranking, assignment=assignment)
    assert np.bincount(grouping.index + 1).tolist() == [5, 65, 65]


def test_regions_keep_their_boxes(systems: Systems):
    boxes = np.array([[-np.inf, -3.0, -np.inf, np.inf], [-3.0, np.inf, -np.inf, np.inf]])
    ranking = Ranking(("east", "west"), {"east": "bottom", "west": "top"})
    grouping = cohort_grouping(systems.population, Regions(("west", "east"), boxes), ranking)
    made = report(systems, [grouping], QUICK)["groupings"][0]
    assert {g["name"]: g["box"] for g in made["groups"]} == {
        "west": [None, -3.0, None, None],
        "east": [-3.0, None, None, None],
    }


# --- columns -------------------------------------------------------------------------------------


def test_covariates_are_categories(systems: Systems, tmp_path: Path):
    assert set(covariate(systems.population, "noise")) == {"quiet", "street"}
    assert set(covariate(systems.population, "gender")) == {"female", "male", "(missing)"}
    quarters = Counter(covariate(systems.population, "longitude"))
    assert sorted(quarters) == ["quarter 1", "quarter 2", "quarter 3", "quarter 4"]
    assert max(quarters.values()) < 1.2 * min(quarters.values())
    assert missing_metadata(systems.population)["noise"] == 0
    with pytest.raises(InputError, match="no utterance has a column"):
        covariate(systems.population, "weather")


def test_columns_of_recordings_are_no_groups(systems: Systems):
    with pytest.raises(InputError, match="each recording"):
        column_grouping(systems.population, "noise")
