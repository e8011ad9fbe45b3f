"""Captions and CTM: what a reader of the format gets back."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.data.errors import InputError
from parley.zoo.formats import (
    CUE_SECONDS,
    LINE_CHARACTERS,
    ctm,
    cues,
    file_names,
    json_line,
    render,
    srt,
    vtt,
)
from parley.zoo.transcript import Word


@st.composite
def spoken(draw) -> list[Word]:
    words, at = [], 0.0
    for text in draw(st.lists(st.text("abc'&<>", min_size=1, max_size=9), max_size=40)):
        at += draw(st.floats(0.0, 1.5))
        end = at + draw(st.floats(0.0, 1.0))
        words.append(Word(text, at, end, 0.5))
        at = end
    return words


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.replace(",", ".").split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


@settings(deadline=None)
@given(spoken())
def test_cues_hold_every_word_once_in_order_and_do_not_overlap(words: list[Word]):
    made = cues(words)
    text = " ".join(line for cue in made for line in cue.lines)
    assert text.split() == [w.text for w in words]
    for cue in made:
        assert cue.start < cue.end
        assert len(cue.lines) <= 2
        assert all(len(line) <= LINE_CHARACTERS for line in cue.lines)
        assert cue.end - cue.start <= 1000 * CUE_SECONDS + 1
    for one, other in pairwise(made):
        assert one.end <= other.start


@settings(deadline=None)
@given(spoken())
def test_subtitles_read_back(words: list[Word]):
    blocks = [block.split("\n") for block in srt(words).split("\n\n") if block.strip()]
    assert [int(block[0]) for block in blocks] == list(range(1, len(blocks) + 1))
    times = [seconds(t) for block in blocks for t in block[1].split(" --> ")]
    assert times == sorted(times)
    head, *rest = vtt(words).split("\n\n")
    assert head.strip() == "WEBVTT"
    said = " ".join(" ".join(block.split("\n")[1:]) for block in rest)
    plain = said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain.split() == [w.text for w in words]
    assert not re.search(r"[<>]", said)


def test_ctm_has_a_line_for_a_word():
    text = ctm("my file;1", [Word("hello", 0.5, 1.25, 0.875)])
    assert text == "my%20file%3B1 1 0.500 0.750 hello 0.875\n"


def test_names_that_are_no_utf8_survive():
    line = json_line({"id": "a\udce9.wav", "text": "é"})
    assert line.encode().decode() == line


def test_text_with_and_without_words():
    fields = {
        "id": "a",
        "text": "hi",
        "words": [{"text": "hi", "start": 0, "end": 1, "confidence": 1}],
    }
    assert render("text", fields) == "hi\n"
    assert render("text", fields, named=True, words=True) == "a\thi\n     0.00    1.00  1.00  hi\n"
    assert '"words"' not in render("json", fields)
    with pytest.raises(InputError, match="--words"):
        render("srt", {"id": "a", "text": "hi"})


def test_files_lie_inside_the_folder_and_never_on_one_another():
    names = file_names(["/x/a.wav", "/x/y/b.wav"], ".srt")
    assert {str(p) for p in names.values()} == {"a.srt", "y/b.srt"}
    [outside] = file_names(["../../etc/passwd"], ".srt").values()
    assert ".." not in outside.parts
    assert not outside.is_absolute()
    with pytest.raises(InputError, match="would both be"):
        file_names(["/x/a.wav", "/x/a.flac"], ".srt")
