"""Beam search as users ask for it: in batches, in streams, with alternatives; and refusals."""

from pathlib import Path

import jax
import numpy as np
import pytest

from parley import zoo
from parley.data.errors import InputError
from parley.zoo.decoding import Decoding
from parley.zoo.package import read_model
from parley.zoo.recognizer import Recognizer
from parley.zoo.transcriber import Transcriber
from parley.zoo.transcript import Transcript


@pytest.fixture(scope="module")
def beams(tiny_folder: Path) -> Transcriber:
    return zoo.load(tiny_folder, decoding=Decoding(beam=4, nbest=3))


@pytest.fixture(scope="module")
def audio(sound) -> list[np.ndarray]:
    return [sound(seconds, seed) for seed, seconds in enumerate([0.6, 1.9, 1.3, 0.9, 1.6])]


@pytest.fixture(scope="module")
def results(beams: Transcriber, audio: list[np.ndarray]) -> list[Transcript]:
    found = beams.transcribe(audio)
    assert all(isinstance(result, Transcript) for result in found)
    return found  # type: ignore[return-value]


def test_alternatives_are_others_and_ranked(results: list[Transcript]):
    for result in results:
        scores = [other.score for other in result.alternatives]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) <= 2
    assert any(other.text != r.text for r in results for other in r.alternatives)
    record = results[0].as_dict(words=False)
    assert [set(a) for a in record["alternatives"]] == [{"text", "score"}] * 2


def test_a_stream_gives_the_text_of_a_batch(
    beams: Transcriber, audio: list[np.ndarray], results: list[Transcript]
):
    partials = set()
    for samples, expected in zip(audio, results, strict=True):
        stream = beams.stream()
        partials |= {stream.feed(piece) for piece in np.array_split(samples, 7)}
        final = stream.finish()
        assert final.text == expected.text
        assert [w.start for w in final.words] == [w.start for w in expected.words]
    assert len(partials) > len(audio)


def test_a_beam_finds_other_text_than_greedy_search(
    model: Transcriber, audio: list[np.ndarray], results: list[Transcript]
):
    greedy = model.transcribe(audio)
    assert [str(r) for r in greedy] != [r.text for r in results]
    assert all(not r.alternatives for r in greedy if isinstance(r, Transcript))


def test_eight_devices_say_what_one_says(tiny_folder: Path, sound):
    assert jax.local_device_count() == 8
    package = read_model(tiny_folder)
    many = Recognizer(package)
    one = Recognizer(package)
    one._mesh, one._everywhere = None, (one._variables, one._scorer)
    samples = np.stack([sound(1.0, seed) for seed in range(16)])
    lengths = np.linspace(0, 16_000, 16).astype(np.int32)
    rows = [r.fetch(r.dispatch(samples, lengths)) for r in (many, one)]
    found = [[[(t.id, t.frame) for t in h.tokens] for [h] in row] for row in rows]
    assert found[0] == found[1]
    assert any(found[0])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"beam": 0}, "nbest lies between 1 and beam"),
        ({"beam": 2, "nbest": 3}, "a beam of 2 cannot give 3"),
        ({"phrases": ("kitchen",)}, "need a beam"),
        ({"beam": 4, "internal_lm": 0.2}, "not HAT"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tiny_folder: Path, given: dict, sentence: str):
    with pytest.raises(InputError, match=sentence):
        zoo.load(tiny_folder, decoding=Decoding(**given))
