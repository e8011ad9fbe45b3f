"""Normalisation is one function for training and scoring, so it must be stable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.data.text import normalize


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Turn ON, the light!", "turn on the light"),
        ("‘Don’t,’ she said", "don't she said"),
        ("rock 'n' roll", "rock n roll"),
        ("dogs' o'clock", "dogs o'clock"),
        ("a_b\tc\n12:30", "a b c 12 30"),
        ("Cafe\u0301 CAFÉ", "café café"),
        ("हिन्दी।", "हिन्दी"),
        (" ... ", ""),
    ],
)
def test_normalize(raw, expected):
    assert normalize(raw) == expected


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    once = normalize(text)
    assert normalize(once) == once
    assert once == once.strip()
    assert "  " not in once
