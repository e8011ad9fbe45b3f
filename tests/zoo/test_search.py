"""Searching by words and by fields: both ways give the same models."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import zoo
from parley.data.errors import InputError
from parley.zoo import cli
from parley.zoo.search import Query, read_query

Output = pytest.CaptureFixture[str]


def test_the_example_of_the_help():
    found = zoo.search("streaming under 5M with turns")
    assert [entry.name for entry in found] == ["sts-tiny"]
    assert found == zoo.search(streaming=True, turns=True, max_params=5e6)
    assert read_query("streaming under 5M with turns") == Query(
        streaming=True, turns=True, max_params=5e6
    )


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ("", Query()),
        ("a model for LibriSpeech", Query(words=("librispeech",))),
        ("offline", Query(streaming=False)),
        ("not streaming", Query(streaming=False)),
        ("untrained conformer", Query(words=("conformer",), trained=False)),
        ("trained, streaming.", Query(trained=True, streaming=True)),
        ("at most 30 ms", Query(max_step_ms=30.0)),
        ("below 0.1 GFLOP/s", Query(max_cost=0.1)),
        ("under 5 %", Query(max_error=5.0)),
        ("over 1M under 40 m parameters", Query(min_params=1e6, max_params=40e6)),
        ("at least 500000 parameters", Query(min_params=500_000.0)),
        ("<2m", Query(max_params=2e6)),
    ],
)
def test_phrases(words: str, query: Query):
    assert read_query(words) == query


@pytest.mark.parametrize("words", ["under 5", "over 30 ms", "at least 5 %"])
def test_a_number_of_nothing_is_refused(words: str):
    with pytest.raises(InputError):
        zoo.search(words)


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_any_words_give_a_query_or_a_sentence(words: str):
    try:
        query = read_query(words)
    except InputError:
        return
    assert str(query)
    assert all(isinstance(query.fits(entry), bool) for entry in zoo.list_models()[:3])


@pytest.mark.parametrize("sort", ["name", "family", "parameters", "cost", "error", "latency"])
def test_sorted_with_the_unknown_last(sort):
    up = zoo.search(sort=sort)
    down = zoo.search(sort=sort, descending=True)
    assert {e.name for e in up} == {e.name for e in down} == {e.name for e in zoo.list_models()}
    if sort == "error":
        known = [e.error for e in up if e.error is not None]
        assert known == sorted(known)
        assert [e.error for e in up[len(known) :]] == [None] * (len(up) - len(known))
        assert [e.error for e in down[: len(known)]] == known[::-1]
    with pytest.raises(InputError, match="cannot be sorted by 'weight'"):
        zoo.search(sort="weight")  # type: ignore[arg-type]


def test_the_command(capsys: Output):
    assert cli.main(["search", "under 2M", "--streaming", "--json"]) == 0
    captured = capsys.readouterr()
    assert "looking for: streaming, at most 2 M parameters" in captured.err
    names = [entry["name"] for entry in json.loads(captured.out)]
    assert names == [e.name for e in zoo.search(streaming=True, max_params=2e6)]
    assert cli.main(["search"]) == 2
    assert "say what to look for" in capsys.readouterr().err
    assert cli.main(["list", "no-such-thing"]) == 0
    assert "no model meets these conditions" in capsys.readouterr().err


def test_the_table_has_interval_licence_and_status(capsys: Output):
    assert cli.main(["list", "--sort", "error", "--family", "rnnt"]) == 0
    text = capsys.readouterr().out
    first = zoo.find("rnnt-tiny").headline
    assert first is not None
    assert f"({first.low:.2f} to {first.high:.2f})" in text
    assert "cc-by-sa-4.0" in text
    assert "untrained" in text
    assert "conformer" not in text
