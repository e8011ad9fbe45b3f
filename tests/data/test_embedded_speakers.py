"""Synthetic speakers: reproducible, disjoint, at home where their accent lives."""

import hashlib
import math
import re
from collections import Counter

import pytest

from parley.data.embedded.speakers import ACCENTS, PLACES, Speaker, _zip, speaker

PEOPLE = [speaker("train", index) for index in range(210)]


def distance_km(who: Speaker) -> float:
    """From the middle of the speaker's place."""
    (place,) = (p for p in PLACES[who.accent] if p.name == who.place)
    north = 111.2 * (who.latitude - place.latitude)
    east = 111.2 * (who.longitude - place.longitude) * math.cos(math.radians(place.latitude))
    return math.hypot(north, east)


def test_a_speaker_is_a_function_of_seed_split_and_index():
    assert speaker("train", 3) == speaker("train", 3)
    voices = {who.variant.replace(who.name, "") for who in PEOPLE}
    voices |= {
        (who := speaker(split, i)).variant.replace(who.name, "")
        for split in ("dev", "test")
        for i in range(35)
    }
    assert len(voices) == 210 + 70
    assert speaker("train", 3, seed=1).variant != speaker("train", 3).variant


def test_every_accent_is_there_in_both_genders():
    assert list(ACCENTS) == ["us", "nyc", "rp", "scotland", "midlands", "lancaster", "caribbean"]
    per_cell = Counter((who.accent, who.gender) for who in PEOPLE)
    assert len(per_cell) == 14
    assert set(per_cell.values()) == {15}
    assert Counter(speaker("test", i).accent for i in range(35)) == dict.fromkeys(ACCENTS, 5)


def test_speakers_live_where_their_accent_does():
    distances = [distance_km(who) for who in PEOPLE]
    assert max(distances) < 40
    # The mean distance of a normal scatter of 7 km each way is 7 sqrt(pi / 2) = 8.8 km.
    assert sum(distances) / len(distances) == pytest.approx(8.8, abs=1.2)


def test_post_codes_follow_the_place():
    for who in PEOPLE:
        (place,) = (p for p in PLACES[who.accent] if p.name == who.place)
        pattern = place.code.replace("#", r"\d").replace("@", "[A-Z]")
        assert re.fullmatch(pattern, who.zip), (who.place, who.zip)
    place = PLACES["us"][0]
    assert _zip(place, -87.649, 41.881) == _zip(place, -87.601, 41.899)  # one cell
    codes = {_zip(place, -87.6 + 0.05 * i, 41.88) for i in range(8)}
    assert len(codes) > 4


def test_metadata_keeps_the_recipe_of_the_voice_to_itself():
    assert set(PEOPLE[0].metadata()) == {
        "accent",
        "gender",
        "place",
        "zip",
        "longitude",
        "latitude",
        "voice",
    }
    assert PEOPLE[3].voice == "en-gb-scotland+train0003"


def test_speakers_are_those_of_version_1():
    """If this fails, the speakers have changed: raise `builder.VERSION`, then the digest."""
    digest = hashlib.blake2b("\n".join(map(repr, PEOPLE)).encode(), digest_size=8).hexdigest()
    assert digest == "80bdb48177f6563e"
