"""SegLST, STM and RTTM: what is written is read back, and a bad line is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.data.errors import InputError
from parley.data.segments import (
    read_rttm,
    read_seglst,
    read_stm,
    write_rttm,
    write_seglst,
    write_stm,
)
from parley.data.turns import Turn

SESSIONS = {
    "call-1": [
        Turn(0.25, 2.5, "good morning", "ann"),
        Turn(1.99, 3.000063, "hi", "bob"),
        Turn(4.0, 5.0, "<laugh> well", ""),
    ],
    "call-2": [Turn(0.0, 1.0, "", "cy")],
}


def test_as_others_write_them():
    assert write_stm(SESSIONS) == (
        "call-1 1 ann 0.25 2.50 good morning\n"
        "call-1 1 bob 1.99 3.000063 hi\n"
        "call-1 1 <NA> 4.00 5.00 <NA> <laugh> well\n"
        "call-2 1 cy 0.00 1.00\n"
    )
    assert write_rttm({"call-2": [Turn(0.5, 1.0, "x", "cy")]}) == (
        "SPEAKER call-2 1 0.50 0.50 <NA> <NA> cy <NA> <NA>\n"
    )
    row = json.loads(write_seglst(SESSIONS))[0]
    assert row == {
        "session_id": "call-1",
        "speaker": "ann",
        "start_time": 0.25,
        "end_time": 2.5,
        "words": "good morning",
    }


def test_there_and_back():
    assert read_seglst(write_seglst(SESSIONS), "x") == SESSIONS
    assert read_stm(write_stm(SESSIONS), "x") == SESSIONS
    wordless = {
        session: [Turn(t.start, t.end, "", t.speaker) for t in turns]
        for session, turns in SESSIONS.items()
    }
    assert read_rttm(write_rttm(SESSIONS), "x") == wordless


names = st.text("abcXYZ019-_.:+<>é", min_size=1, max_size=8)
words = st.lists(st.text("abz'<>;&é", min_size=1, max_size=5), max_size=4).map(" ".join)
turns = st.tuples(st.integers(0, 10**8), st.integers(1, 10**7), words, names | st.just("")).map(
    lambda x: Turn(x[0] / 10_000, (x[0] + x[1]) / 10_000, x[2], x[3])
)
sessions = st.dictionaries(names, st.lists(turns, min_size=1, max_size=4), max_size=3)


@given(sessions)
def test_whatever_is_said_comes_back(spoken):
    expected = {
        session: sorted(turns, key=lambda t: (t.start, t.end)) for session, turns in spoken.items()
    }
    assert read_seglst(write_seglst(spoken), "x") == expected
    assert read_stm(write_stm(spoken), "x") == expected
    times = {s: [(t.start, t.end, t.speaker) for t in turns] for s, turns in expected.items()}
    read = read_rttm(write_rttm(spoken), "x")
    assert {s: [(t.start, t.end, t.speaker) for t in turns] for s, turns in read.items()} == times


def test_names_with_spaces():
    written = {"a b": [Turn(0, 1, "two  words", "Ann Lee"), Turn(1, 2, "x", ";y")]}
    assert read_stm(write_stm(written), "x") == {
        "a_b": [Turn(0, 1, "two words", "Ann_Lee"), Turn(1, 2, "x", "_;y")]
    }
    assert read_stm(write_stm({";s": [Turn(0, 1, "x", "y")]}), "x") == {
        "_;s": [Turn(0, 1, "x", "y")]
    }


def test_as_others_wrote_them():
    # A line of the reference files of LibriCSS.
    stm = (
        ";; Reference file\r\n"
        "OpenCSS_SEG0 0 A 0.00 2.99 <O,O0.0_S0.1_0.5_S0_A0.0_S0,N> WE MODERNS HOWEVER\r\n\r\n"
    )
    assert read_stm(stm, "x") == {"OpenCSS_SEG0": [Turn(0.0, 2.99, "WE MODERNS HOWEVER", "A")]}
    rttm = (
        "SPKR-INFO trn01 1 <NA> <NA> <NA> unknown FEO066 <NA>\n"
        "SPEAKER trn01 1 2.977 0.391 <NA> <NA> FEO066 <NA> <NA>\n"
        "SPEAKER trn01 1 18.705 0.964 <NA> <NA> MEE068 <NA>\n"
    )
    assert read_rttm(rttm, "x") == {
        "trn01": [Turn(2.977, 3.368, "", "FEO066"), Turn(18.705, 19.669, "", "MEE068")]
    }
    assert read_seglst(
        '[{"session_id": "s", "start_time": 1, "end_time": 2.5, "words": "a", "channel": 0}]', "x"
    ) == {"s": [Turn(1.0, 2.5, "a", "")]}
    assert read_stm("", "x") == read_rttm("\n", "x") == read_seglst("[]", "x") == {}


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_seglst, "{", "f is broken JSON"),
        (read_seglst, "{}", "f is no SegLST"),
        (read_seglst, "[3]", r"f\[1\] is not a JSON object"),
        (read_seglst, '[{"session_id": "s"}]', r"f\[1\] has no start_time"),
        (
            read_seglst,
            '[{"session_id": "s", "start_time": "1", "end_time": 2, "words": ""}]',
            r"f\[1\]: a turn's start or end is not a number",
        ),
        (read_stm, "a 1 b 0.0", "f:1: not 'session channel speaker start end words'"),
        (read_stm, "\na 1 b 0.0 end words", "f:2: 'end' is not a number of seconds"),
        (read_stm, "a 1 b 2.0 1.0 words", "f:1: a turn from 2 to 1 s"),
        (read_stm, "a 1 b nan 1.0 words", "f:1: a turn from nan to 1 s"),
        (read_rttm, "SPEAKER a 1 0.0 1.0 <NA> <NA>", "f:1: not 'SPEAKER session channel"),
        (read_rttm, "SPEAKER a 1 0.0 x <NA> <NA> b", "f:1: 'x' is not a number"),
        (read_rttm, "SPEAKER a 1 1.0 0.0 <NA> <NA> b", "f:1: a turn from 1 to 1 s"),
        (read_rttm, "SPEAKER a 1 1.0 inf <NA> <NA> b", "f:1: a turn from 1 to inf s"),
    ],
)
def test_a_bad_line_is_named(read, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read(content, "f")
    assert "\n" not in str(caught.value)


def test_real_references():
    import os
    from pathlib import Path

    speech = Path(os.environ.get("PARLEY_SPEECH", Path(__file__).parents[3] / "shared" / "speech"))
    path = speech / "meetings" / "reference.rttm"
    if not path.is_file():
        pytest.skip("no real recordings: set PARLEY_SPEECH to their folder")
    sessions = read_rttm(path.read_text(), path.name)
    lines = [line for line in path.read_text().splitlines() if line.startswith("SPEAKER")]
    assert sum(map(len, sessions.values())) == len(lines)
    total = sum(float(line.split()[4]) for line in lines)
    found = sum(t.end - t.start for turns in sessions.values() for t in turns)
    assert found == pytest.approx(total, abs=1e-6)
