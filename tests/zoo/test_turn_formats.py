"""Conversations as text, CTM and captions: what a reader of the format gets back."""

import re

import pytest

from parley.data.errors import InputError
from parley.data.turns import Turn
from parley.zoo.turn_formats import labelled, render_turns, turns_ctm, turns_srt, turns_vtt


def word(text: str, start: float, end: float) -> dict:
    return {"text": text, "start": start, "end": end, "confidence": 0.5}


TALK = {
    "id": "talk one",
    "turns": [
        {
            "start": 0.5,
            "end": 2.0,
            "channel": 0,
            "speaker": "Ann",
            "text": "lights on",
            "words": [word("lights", 0.5, 1.0), word("on", 1.25, 1.5)],
        },
        {
            "start": 1.5,
            "end": 2.5,
            "channel": 1,
            "speaker": "<Bob>\nB.",
            "text": "why",
            "words": [word("why", 1.75, 2.0)],
        },
        {"start": 2.6, "end": 2.7, "channel": 0, "speaker": "Ann", "text": "", "words": []},
        {
            "start": 3.0,
            "end": 4.0,
            "channel": 0,
            "text": "a --> b",
            "words": [word("a", 3.0, 3.1), word("-->", 3.1, 3.2), word("b", 3.2, 3.3)],
        },
    ],
}


def test_every_turn_has_a_speaker():
    assert labelled(TALK) == [
        Turn(0.5, 2.0, "lights on", "Ann"),
        Turn(1.5, 2.5, "why", "<Bob> B."),
        Turn(2.6, 2.7, "", "Ann"),
        Turn(3.0, 4.0, "a --> b", "channel 1"),
    ]
    assert render_turns("text", TALK) == "Ann: lights on\n<Bob> B.: why\nchannel 1: a --> b\n"


def test_ctm_is_sorted_by_channel_and_time():
    assert turns_ctm(TALK) == (
        "talk%20one 1 0.500 0.500 lights 0.500\n"
        "talk%20one 1 1.250 0.250 on 0.500\n"
        "talk%20one 1 3.000 0.100 a 0.500\n"
        "talk%20one 1 3.100 0.100 --> 0.500\n"
        "talk%20one 1 3.200 0.100 b 0.500\n"
        "talk%20one 2 1.750 0.250 why 0.500\n"
    )


def test_captions_are_named():
    assert turns_srt(TALK) == (
        "1\n00:00:00,500 --> 00:00:01,500\nAnn: lights on\n\n"
        "2\n00:00:01,750 --> 00:00:02,750\n<Bob> B.: why\n\n"
        "3\n00:00:03,000 --> 00:00:04,000\nchannel 1: a -> b\n"
    )
    assert turns_vtt(TALK) == (
        "WEBVTT\n\n"
        "00:00:00.500 --> 00:00:01.500\n<v Ann>lights on\n\n"
        "00:00:01.750 --> 00:00:02.750\n<v &lt;Bob&gt; B.>why\n\n"
        "00:00:03.000 --> 00:00:04.000\n<v channel 1>a --&gt; b\n"
    )


def test_a_name_comes_again_when_another_spoke_between():
    def turn(speaker: str, channel: int, start: float, text: str) -> dict:
        end = start + len(text.split())
        return {
            "start": start,
            "end": end,
            "channel": channel,
            "speaker": speaker,
            "text": text,
        }

    long = " ".join(f"word{i}" for i in range(20))
    talk = {"id": "x", "turns": [turn("Ann", 0, 0.0, long), turn("Bob", 1, 9.0, "yes")]}
    blocks = [block.split("\n", 2)[2] for block in turns_srt(talk).split("\n\n")]
    who = [re.match(r"(Ann|Bob): |", block).group(1) for block in blocks]  # pyright: ignore
    assert who == ["Ann", None, "Bob", "Ann"]
    # Without times of words they are spread over the turn, and all are there.
    said = " ".join(" ".join(blocks).split()).replace("Ann: ", "").replace("Bob: yes ", "")
    assert said == long


def test_ctm_needs_times_of_words():
    talk = {"id": "x", "turns": [{"start": 0, "end": 1, "channel": 0, "text": "a"}]}
    with pytest.raises(InputError, match="--words"):
        turns_ctm(talk)
    assert "a" in turns_srt(talk)


def test_nothing_said():
    assert render_turns("text", {"id": "x", "turns": []}) == ""
    assert turns_ctm({"id": "x", "turns": []}) == ""
    assert turns_srt({"id": "x", "turns": []}) == ""
    assert turns_vtt({"id": "x", "turns": []}) == "WEBVTT\n"
