"""Assignments of speakers to cohorts, and corpora that are selected by them."""

import json
from pathlib import Path
from typing import Any

import pytest

from parley.data.cohorts import read_assignment
from parley.data.corpus import open_corpus
from parley.data.errors import InputError

RECORD = {
    "cohorts": ["north", "south", "tiny"],
    "groups": {"north": "bottom", "south": "top"},
    "speakers": {"ann": "south", "bob": "north", "dan": "tiny"},
}


@pytest.fixture
def write(tmp_path: Path):
    def make(record: Any) -> Path:
        path = tmp_path / "assigned.json"
        path.write_text(record if isinstance(record, str) else json.dumps(record))
        return path

    return make


def test_utterances_say_their_speakers_cohort(manifest: Path, write):
    corpus = open_corpus(f"{manifest}?cohorts={write(RECORD)}")
    assert len(corpus) == 60
    expected = {
        "ann": {"cohort": "south", "cohort_rank": 2, "cohort_group": "top"},
        "bob": {"cohort": "north", "cohort_rank": 1, "cohort_group": "bottom"},
        "cy": {},
    }
    for i in range(60):
        utterance = corpus.utterance(i)
        said = {k: v for k, v in utterance.metadata.items() if k.startswith("cohort")}
        assert said == expected[utterance.speaker]
        assert "take" in utterance.metadata
    assert len(corpus.samples(1)) == round(corpus.utterance(1).duration * 16_000)


@pytest.mark.parametrize(
    ("query", "speakers"),
    [
        ("cohort=north", {"bob"}),
        ("cohort=*", {"ann", "bob"}),
        ("cohort=!*", {"cy"}),
        ("cohort_group=bottom", {"bob"}),
        ("cohort_group=!bottom", {"ann", "cy"}),
        ("cohort_rank=1-2", {"ann", "bob"}),
        ("cohort_rank=2", {"ann"}),
        ("cohort=north,south&take=1-3", {"ann", "bob"}),
    ],
)
def test_selection_by_cohort(manifest: Path, write, query: str, speakers: set[str]):
    corpus = open_corpus(f"{manifest}?cohorts={write(RECORD)}&{query}")
    assert {corpus.utterance(i).speaker for i in range(len(corpus))} == speakers


def test_joined_recordings_keep_the_cohort(manifest: Path, write):
    path = write(RECORD)
    corpus = open_corpus(f"{manifest}?cohorts={path}&cohort=north&join=2-3&draws=5")
    assert {corpus.utterance(i).metadata["cohort_rank"] for i in range(5)} == {1}


def test_a_cohort_that_is_not_ranked(write):
    assert read_assignment(write(RECORD)).metadata("tiny") == {"cohort": "tiny"}


@pytest.mark.parametrize(
    "record",
    [
        "not json",
        "[" * 100_000,
        [],
        {},
        {**RECORD, "cohorts": ["north", "south"]},
        {**RECORD, "cohorts": ["north", "north", "south", "tiny"]},
        {**RECORD, "cohorts": [1, "north", "south", "tiny"]},
        {**RECORD, "groups": {"north": "worst"}},
        {**RECORD, "groups": {"north": ["bottom"]}},
        {**RECORD, "groups": {"west": "bottom"}},
        {**RECORD, "speakers": {"ann": 3}},
        {**RECORD, "speakers": {"ann": ["north"]}},
        {**RECORD, "speakers": ["ann"]},
    ],
)
def test_what_is_no_assignment_is_refused(write, record: Any):
    with pytest.raises(InputError, match="is no assignment of speakers") as caught:
        read_assignment(write(record))
    assert "\n" not in str(caught.value)


def test_mistakes_in_a_spec(manifest: Path, write, tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        open_corpus(f"{manifest}?cohorts={tmp_path / 'absent.json'}")
    path = write({**RECORD, "speakers": {"zoe": "north"}})
    with pytest.raises(InputError, match="names none of the speakers of"):
        open_corpus(f"{manifest}?cohorts={path}")
    with pytest.raises(InputError, match="no recording has a field 'cohort'"):
        open_corpus(f"{manifest}?cohort=north")
