"""Synthetic speakers: who they are, where they live and how their voice is made.

A speaker is a function of (seed, split, index); there are as many as one asks for, and asking for
more does not change those there were. Accents take turns, then genders, so every block of fourteen
speakers has each accent in both genders. The rest is drawn from the distributions below, fixed
when the corpus was made (`N` normal, cut to the range given; `U` uniform):

| property | distribution | in espeak-ng |
|---|---|---|
| fundamental frequency | men N(112, 16) Hz in 78..158; women N(204, 22) Hz in 155..270 | `pitch` |
| its excursion | ±N(17, 5) % in 6..30 | `pitch` |
| vocal tract | men N(100, 4) % in 90..110; women N(113, 4) % in 103..124 | all `formant`s |
| each formant besides | N(0, 2.5) % | `formant` |
| formant height, width | N(100, 12) % in 65..135, N(105, 20) % in 60..170 | `formant` |
| roughness, flutter | U{0..3}, U{1..6} | `roughness`, `flutter` |
| breath | none for 65 %, else U{1..4} for formants 1 to 7 | `breath` |
| voicing, consonants | U(85, 125) %, U(80, 125) % | `voicing`, `consonants` |
| stress | N(0, 8) for each of eight levels, in -20..20 | `stressAdd` |
| pace, melody | N(165, 16) words a minute in 130..205; U{35..65} | rate and range |
| home | a place of the accent by weight, N(0, 7 km) east and north of its middle | |

Places and the letters of their post codes are real; the rest of a code is made up, and belongs to
a cell of 0.05 degrees: two speakers of one cell share it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Place:
    """Where an accent is spoken: degrees, and a post code where `#` is a digit and `@` a letter."""

    name: str
    longitude: float
    latitude: float
    code: str
    weight: float = 1.0


# The accent's short name, as metadata gives it: its espeak-ng voice.
ACCENTS = {
    "us": "en-us",
    "nyc": "en-us-nyc",
    "rp": "en-gb-x-rp",
    "scotland": "en-gb-scotland",
    "midlands": "en-gb-x-gbcwmd",
    "lancaster": "en-gb-x-gbclan",
    "caribbean": "en-029",
}

PLACES = {
    "us": (
        Place("Chicago", -87.65, 41.88, "606##", 2),
        Place("Columbus", -82.99, 39.96, "432##"),
        Place("Minneapolis", -93.27, 44.98, "554##"),
        Place("Denver", -104.99, 39.74, "802##"),
        Place("Kansas City", -94.58, 39.10, "641##"),
        Place("Seattle", -122.33, 47.61, "981##"),
        Place("Sacramento", -121.49, 38.58, "958##"),
        Place("Phoenix", -112.07, 33.45, "850##"),
    ),
    "nyc": (
        Place("Manhattan", -73.97, 40.78, "100##"),
        Place("Bronx", -73.86, 40.85, "104##"),
        Place("Brooklyn", -73.95, 40.65, "112##", 2),
        Place("Queens", -73.82, 40.72, "113##", 2),
        Place("Staten Island", -74.15, 40.58, "103##"),
        Place("Hoboken", -74.03, 40.74, "070##"),
    ),
    "rp": (
        Place("Kensington", -0.19, 51.50, "SW# #@@", 2),
        Place("Hampstead", -0.18, 51.56, "NW# #@@"),
        Place("Oxford", -1.26, 51.75, "OX# #@@"),
        Place("Cambridge", 0.12, 52.21, "CB# #@@"),
        Place("Guildford", -0.57, 51.24, "GU# #@@"),
        Place("Winchester", -1.31, 51.06, "SO## #@@"),
    ),
    "scotland": (
        Place("Edinburgh", -3.19, 55.95, "EH# #@@", 2),
        Place("Glasgow", -4.25, 55.86, "G## #@@", 2),
        Place("Aberdeen", -2.10, 57.15, "AB# #@@"),
        Place("Dundee", -2.97, 56.46, "DD# #@@"),
        Place("Inverness", -4.22, 57.48, "IV# #@@"),
        Place("Stirling", -3.94, 56.12, "FK# #@@"),
    ),
    "midlands": (
        Place("Birmingham", -1.90, 52.48, "B## #@@", 2),
        Place("Wolverhampton", -2.13, 52.59, "WV# #@@"),
        Place("Dudley", -2.09, 52.51, "DY# #@@"),
        Place("Walsall", -1.98, 52.58, "WS# #@@"),
        Place("Coventry", -1.51, 52.41, "CV# #@@"),
    ),
    "lancaster": (
        Place("Lancaster", -2.80, 54.05, "LA# #@@", 2),
        Place("Preston", -2.70, 53.76, "PR# #@@"),
        Place("Blackburn", -2.48, 53.75, "BB# #@@"),
        Place("Bolton", -2.43, 53.58, "BL# #@@"),
        Place("Burnley", -2.24, 53.79, "BB## #@@"),
    ),
    "caribbean": (
        Place("Bridgetown", -59.60, 13.11, "BB#####"),
        Place("Port of Spain", -61.49, 10.65, "1#####"),
        Place("Kingston", -76.79, 18.01, "JMAKN##", 2),
        Place("Castries", -60.98, 13.99, "LC## ###"),
        Place("Kingstown", -61.22, 13.16, "VC####"),
    ),
}

_CELL_DEG = 0.05
_KM_PER_DEG = 111.2
_LETTERS = "ABDEFGHJLNPQRSTUWXYZ"  # those of the last two places of a British post code


@dataclass(frozen=True)
class Speaker:
    """A synthetic speaker.

    Attributes:
      name: also the name of the voice variant; unique over splits.
      pace: words a minute.
      span: espeak-ng's range, 0 to 99.
      variant: content of the voice variant file.
    """

    name: str
    accent: str
    gender: str
    place: str
    longitude: float
    latitude: float
    zip: str
    pace: int
    span: int
    variant: str

    @property
    def voice(self) -> str:
        """What espeak-ng is asked for: `en-gb-scotland+train0003`."""
        return f"{ACCENTS[self.accent]}+{self.name}"

    def metadata(self) -> dict[str, Any]:
        """What is known of the speaker, for cohorts: all but the recipe of the voice."""
        fields = asdict(self)
        for hidden in ("name", "pace", "span", "variant"):
            del fields[hidden]
        return fields | {"voice": self.voice}


def speaker(split: str, index: int, seed: int = 0) -> Speaker:
    """The `index`-th speaker of a split.

    Args:
      split: `train`, `dev` or `test`; the three never share a speaker.
      seed: another seed gives other people of the same names.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    accent = list(ACCENTS)[index % len(ACCENTS)]
    gender = ("female", "male")[index // len(ACCENTS) % 2]
    name = f"{split}{index:04d}"
    place, longitude, latitude, code = _home(rng, accent)
    return Speaker(
        name=name,
        accent=accent,
        gender=gender,
        place=place,
        longitude=longitude,
        latitude=latitude,
        zip=code,
        pace=round(_normal(rng, 165, 16, 130, 205)),
        span=int(rng.integers(35, 66)),
        variant=_variant(rng, name, gender),
    )


def _normal(rng: np.random.Generator, mean: float, std: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(mean, std), low, high))


def _variant(rng: np.random.Generator, name: str, gender: str) -> str:
    female = gender == "female"
    pitch_hz = _normal(rng, *((204, 22, 155, 270) if female else (112, 16, 78, 158)))
    excursion = _normal(rng, 17, 5, 6, 30) / 100
    tract = _normal(rng, *((113, 4, 103, 124) if female else (100, 4, 90, 110)))
    lines = [
        "language variant",
        f"name {name}",
        f"gender {gender}",
        f"pitch {pitch_hz * (1 - excursion):.0f} {pitch_hz * (1 + excursion):.0f}",
        f"roughness {rng.integers(0, 4)}",
        f"flutter {rng.integers(1, 7)}",
        f"voicing {rng.integers(85, 126)}",
        f"consonants {rng.integers(80, 126)} {rng.integers(80, 126)}",
    ]
    for formant in range(9):
        frequency = tract + rng.normal(0, 2.5)
        height = _normal(rng, 100, 12, 65, 135)
        width = _normal(rng, 105, 20, 60, 170)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    breath = rng.integers(1, 5, size=7)
    if rng.random() >= 0.65:
        lines.append("breath 0 " + " ".join(map(str, breath)))
    stress = [round(_normal(rng, 0, 8, -20, 20)) for _ in range(8)]
    lines.append("stressAdd " + " ".join(map(str, stress)))
    return "\n".join(lines) + "\n"


def _home(rng: np.random.Generator, accent: str) -> tuple[str, float, float, str]:
    places = PLACES[accent]
    weights = np.array([place.weight for place in places])
    place = places[rng.choice(len(places), p=weights / weights.sum())]
    east_km, north_km = rng.normal(0, 7, size=2)
    latitude = place.latitude + north_km / _KM_PER_DEG
    longitude = place.longitude + east_km / _KM_PER_DEG / math.cos(math.radians(latitude))
    return place.name, round(longitude, 4), round(latitude, 4), _zip(place, longitude, latitude)


def _zip(place: Place, longitude: float, latitude: float) -> str:
    cell = f"{place.name} {math.floor(longitude / _CELL_DEG)} {math.floor(latitude / _CELL_DEG)}"
    digits = iter(hashlib.blake2b(cell.encode()).digest())
    fill = {"#": "0123456789", "@": _LETTERS}
    return "".join(
        fill[mark][next(digits) % len(fill[mark])] if mark in fill else mark for mark in place.code
    )
