"""Players for a fairness report: what speakers near the centres of clusters sound like."""

import io
from collections.abc import Iterator

import numpy as np
import soundfile

from ..data.audio import SAMPLE_RATE
from ..data.corpus import Corpus
from ..data.errors import InputError
from ..fairness.page import Html, audio, clean, element
from ..fairness.report_data import Grouping

SECONDS = 4.0
MOST = 24
EACH = 2
"""Speakers of a cluster."""


def players(grouping: Grouping, corpus: Corpus, *, with_ids: bool = False) -> list[Html]:
    """A heading and players: of the bottom and top clusters, `EACH` of each and `MOST` in all,
    the beginning of one recording of each speaker.

    Raises:
      InputError: the corpus has none of these speakers.
    """
    first: dict[str, int] = {}
    for i in range(len(corpus)):
        first.setdefault(corpus.utterance(i).speaker, i)
    found: list[Html] = []
    for cluster, role, number, speaker in _wanted(grouping, set(first)):
        if len(found) == MOST:
            break
        try:
            samples = corpus.samples(first[speaker])
        except InputError:  # one that cannot be read is no example
            continue
        named = f", {clean(speaker)}" if with_ids else ""
        label = f"{clean(cluster)} ({role}), example {number}{named}"
        player = audio(_mp3(samples[: int(SECONDS * SAMPLE_RATE)]), label)
        found.append(element("div", element("p", label), player))
    if not found:
        raise InputError(
            f"{corpus.name} has none of the speakers near the centres of the clusters: give "
            "--data the corpus that they were found in."
        )
    heading = element("h3", "How the bottom and top clusters sound")
    note = (
        "The speakers nearest to each centre, who were chosen by their voices alone; the first "
        f"{SECONDS:g} seconds of one recording each."
    )
    return [heading, element("p", note, class_="note"), *found]


def _wanted(grouping: Grouping, there: set[str]) -> Iterator[tuple[str, str, int, str]]:
    """Cluster, role, number of the example, speaker."""
    for role in ("bottom", "top"):
        for cluster in (name for name in grouping.names if grouping.roles.get(name) == role):
            speakers = [s for s in grouping.examples.get(cluster, ()) if s in there]
            for number, speaker in enumerate(speakers[:EACH], 1):
                yield cluster, role, number, speaker


def _mp3(samples: np.ndarray) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return made.getvalue()
