"""Scored utterances grouped by speaker, metadata of speakers, and splits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.fairness.scores import read_scores, scores_of, split_speakers
from parley.metrics.wer import word_errors
from parley.zoo.evaluation import Evaluation, Scored


def scored(id: str, speaker: str, hypothesis: str, **metadata: Any) -> Scored:
    reference = "turn the light on"
    return Scored(
        id, speaker, reference, hypothesis, word_errors(reference, hypothesis), 1.5, metadata
    )


UTTERANCES = [
    scored("a", "ann", "turn the light on", accent="rp", gender="female", snr=10.0, year=1980),
    scored("b", "bob", "turn light on now", accent="us", gender="male", snr=20.0, year=None),
    scored("c", "ann", "turn a light", accent="rp", gender="female", snr=12.0, year=1980.0),
    scored("d", "", "", accent="us", gender="male"),
    scored("e", "cy", "turn the light off", accent="rp", gender="", snr=float("nan")),
    scored("f", "bob", "turn the light on", accent="us", gender="male", snr=30.0, year="1975"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(u.as_dict()) + "\n" for u in UTTERANCES))
    return file


def test_a_file_and_an_evaluation_say_the_same(path: Path):
    evaluation = Evaluation(UTTERANCES, [], 9.0, 1.0)
    for scores in (read_scores(path), scores_of(evaluation.utterances, "memory")):
        assert scores.speakers == ("ann", "bob", "cy")
        assert scores.errors.tolist() == [2, 2, 1]
        assert scores.kinds.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]
        assert scores.words.tolist() == [8, 8, 4]
        assert scores.utterances.tolist() == [2, 2, 1]
        assert scores.seconds.tolist() == [3.0, 3.0, 1.5]
        assert scores.population.without_speaker == 1
        assert scores.ids == ("a", "b", "c", "e", "f")


def test_columns_of_speakers(path: Path):
    population = read_scores(path).population
    accents = population.labels("accent")
    assert accents.names == ("rp", "us")
    assert accents.index.tolist() == [0, 1, 0]
    gender = population.labels("gender")
    assert (gender.index.tolist(), gender.missing) == ([0, 1, -1], 1)
    np.testing.assert_equal(population.numbers("year"), [1980, 1975, np.nan])
    crossed = population.labels("accent", "gender")
    assert crossed.names == ("rp / female", "us / male")
    assert crossed.index.tolist() == [0, 1, -1]
    snr = [np.nan if x is None else x for x in population.column("snr")]
    np.testing.assert_equal(population.means(snr), [11, 25, np.nan])


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ("acent", "no utterance has a column 'acent'; there are accent, gender, lists, snr"),
        ("snr", "'snr' has a value for each recording, and groups are of speakers"),
        ("lists", "'lists' holds lists"),
    ],
)
def test_columns_that_are_none_of_speakers(column: str, sentence: str):
    extra = [scored("g", "dee", "", lists=[1])]
    population = scores_of(UTTERANCES + extra, "memory").population
    with pytest.raises(InputError, match=sentence):
        population.labels(column)


def test_labels_that_differ_within_a_speaker_are_counted():
    utterances = [
        scored(f"{s}{i}", f"s{s}", "", accent="us" if (s, i) == (4, 2) else "rp")
        for s in range(7)
        for i in range(3)
    ]
    population = scores_of(utterances, "memory").population
    sentence = r"'accent' differs within 1 of 7 speakers \(s4 has rp, us\)"
    with pytest.raises(InputError, match=sentence):
        population.labels("accent")


def test_numbers_that_are_none(path: Path):
    population = read_scores(path).population
    with pytest.raises(InputError, match="'accent' holds 'rp', which is no number"):
        population.numbers("accent")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"words": None}, "its errors and words are no counts"),
        ({"words": -1}, "its errors and words are no counts"),
        ({"deletions": 10**30}, "its errors and words are no counts"),
        ({"insertions": True}, "its errors and words are no counts"),
        ({"duration": float("nan")}, "its duration is no number of seconds"),
        ({"speaker": 3}, "its id or speaker is no text"),
        ({"metadata": []}, "its metadata is no object"),
    ],
)
def test_a_broken_line_is_named(path: Path, change: dict[str, Any], reason: str):
    with open(path, "a") as file:
        file.write("\n" + json.dumps({**UTTERANCES[0].as_dict(), **change}) + "\n")
    with pytest.raises(InputError, match=rf"results.jsonl:8 is no scored utterance \({reason}\)"):
        read_scores(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"id": "a", "speaker"', ":1 is no scored utterance .it is not JSON"),
        (b"\xff\xfe", ":1 is no scored utterance .it is not JSON"),
        (b"[" * 200_000, ":1 is no scored utterance .it is not JSON"),
        (b"[]", ":1 is no scored utterance .it is no object"),
        (b'{"id": "a", "text": "turn"}', ":1 is no scored utterance .it has no speaker"),
        (b"", "holds no scored utterances"),
    ],
)
def test_what_is_no_file_of_scores(tmp_path: Path, content: bytes, reason: str):
    file = tmp_path / "results.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        read_scores(file)
    assert "\n" not in str(caught.value)


def test_missing_files_and_missing_speakers(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_scores(tmp_path / "absent.jsonl")
    silent = Scored("a", "ann", "", "", word_errors("", ""), 1.0)
    with pytest.raises(InputError, match="memory has no words to compare with"):
        scores_of([silent], "memory")
    with pytest.raises(InputError, match="memory names no speakers"):
        scores_of([scored("a", "", "")], "memory")


def test_splits_are_disjoint_and_nobodys_depends_on_who_else_is_there():
    names = [f"speaker {i}" for i in range(30_000)]
    split = split_speakers(names, seed=3)
    assert set(split.tolist()) == {0, 1, 2}
    # Three standard deviations of a binomial share.
    share = np.bincount(split) / len(names)
    assert np.abs(share - 1 / 3).max() < 3 * np.sqrt(2 / 9 / len(names))
    order = np.random.default_rng(0).permutation(len(names))[:500]
    assert (split_speakers([names[i] for i in order], seed=3) == split[order]).all()
    other = split_speakers(names, seed=4)
    assert 0.3 < (other == split).mean() < 0.37
    assert set(split_speakers(names, shares=(0, 0.5, 0.5)).tolist()) == {1, 2}
