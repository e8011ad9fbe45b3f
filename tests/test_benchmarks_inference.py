"""What the inference benchmarks are made of: batches, floors, the timetable. Nothing is timed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

from parley.benchmarks import _inference_measure as measure
from parley.benchmarks import inference, pocketsphinx
from parley.benchmarks._inference_timetable import TimetableTransducer
from parley.models.beam import beam_search
from parley.models.cost import cost, model_cost, state_bytes
from parley.models.decoding import greedy, init_decoder
from parley.models.encoders.lstm import LSTMEncoder, LSTMEncoderConfig
from parley.models.frontend import FrontendConfig
from parley.models.transducer import PredictionConfig, TransducerConfig

RATE = 16_000
CONFIG = TransducerConfig(
    vocab_size=12,
    frontend=FrontendConfig(bins=16, stack=4),
    encoder=LSTMEncoderConfig(width=16, layers=3, output=8, reduce_after=1),
    prediction=PredictionConfig(embedding=8, width=8, layers=1, output=8),
)
FRAME_S = 0.08


class _Lengths:
    """A corpus of recordings of so many samples, each of its own value."""

    name = "lengths"

    def __init__(self, *lengths: int):
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def utterance(self, i: int):
        from parley.data.corpus import Utterance

        return Utterance(str(i), "", self.lengths[i] / RATE)

    def samples(self, i: int) -> np.ndarray:
        return np.full(self.lengths[i], i + 1, np.int16)


def test_a_batch_is_the_recordings_around_the_median():
    corpus = _Lengths(5000, 1000, 3000, 4000, 2000)
    found = measure.neighbours(corpus, 3)
    assert [len(samples) for samples in found] == [2000, 3000, 4000]
    assert [int(samples[0]) for samples in found] == [5, 3, 4]
    assert len(measure.neighbours(corpus, 32)) == 5


def test_rows_are_padded_to_the_bucket_that_holds_the_longest():
    audio = [np.full(n, 7, np.int16) for n in (16_000, 16_001, 30_000)]
    samples, lengths = measure.padded(audio)
    assert samples.shape == (3, 2 * RATE)
    np.testing.assert_array_equal(lengths, [16_000, 16_001, 30_000])
    np.testing.assert_array_equal((samples != 0).sum(axis=1), lengths)


@pytest.mark.parametrize("reduce_after", [None, 1])
def test_the_floor_has_the_encoders_products_and_no_others(reduce_after: int | None):
    config = LSTMEncoderConfig(width=16, layers=3, output=8, reduce_after=reduce_after, norm=True)
    encoder = LSTMEncoder(config, 24, rngs=nnx.Rngs(0))
    rows, frames = 2, 11  # one more than the stride divides
    x, lengths = jnp.zeros((rows, frames, 24)), jnp.full(rows, frames)
    graphdef, variables = nnx.split(encoder)
    whole = cost(lambda v, *a: nnx.merge(graphdef, v)(*a), variables, x, lengths)
    assert sum(cost(run) for run in measure.bare(encoder, rows, frames)) == whole


def test_the_floor_of_a_streams_step_by_hand():
    one = measure.Machine(multiply_adds=1.0, bytes=1.0)
    arithmetic, memory = measure.least_seconds(CONFIG, 3, FRAME_S, one)
    counted = model_cost(CONFIG)
    assert arithmetic == pytest.approx(3 * FRAME_S * counted.total)
    # Kernel, recurrent and bias of layers that see 64, 32 and 16 values; two linear layers.
    encoder = 64 * (64 + 16 + 1) + 64 * (32 + 16 + 1) + 64 * (16 + 16 + 1) + 16 * 8 + 8
    joint = 8 * 12 + 12
    assert memory == 4 * (encoder + joint) + 2 * 3 * (state_bytes(CONFIG) or 0)


def _speaker() -> TimetableTransducer:
    return TimetableTransducer(CONFIG, rngs=nnx.Rngs(0))


def _sound(rows: int, samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1000, (rows, samples)).astype(np.int16)


def _due(row: int, frames: int) -> list[int]:
    """Frames of the tokens of a row, one for each period of 0.25 s that ends in them."""
    phase = row * 0.6180339887 % 1.0
    spoken, found = 0, []
    for frame in range(frames):
        if np.floor((frame + 1) * FRAME_S * 4.0 + phase) > spoken:
            spoken += 1
            found.append(frame)
    return found


@pytest.mark.slow
def test_random_weights_speak_by_the_timetable_whole_and_in_a_stream():
    model = _speaker()
    graphdef, variables = nnx.split(model)
    rows, frames = 3, 40
    samples = _sound(rows, frames * model.samples_per_step)
    lengths = jnp.array([frames, frames, 20]) * model.samples_per_step

    @jax.jit
    def hear(variables, samples):
        model = nnx.merge(graphdef, variables)
        return greedy(model, *model.encode(*model.features(samples, lengths)))[0]

    @jax.jit
    def step(variables, chunk, state, decoder):
        model = nnx.merge(graphdef, variables)
        encoded, state = model.stream_step(chunk, state)
        return *greedy(model, encoded, jnp.full(rows, encoded.shape[1]), state=decoder), state

    whole = hear(variables, samples)
    for row, length in enumerate((frames, frames, 20)):
        expected = _due(row, length)
        assert len(expected) in (int(4 * length * FRAME_S), int(4 * length * FRAME_S) + 1)
        assert whole.frames[row, : whole.counts[row]].tolist() == expected
    state, decoder, found = model.init_stream(rows), init_decoder(model, rows), [[], []]
    for chunk in np.split(samples, 8, axis=1):
        some, decoder, state = step(variables, chunk, state, decoder)
        for row in range(2):
            found[row] += some.tokens[row, : some.counts[row]].tolist()
    assert found == [whole.tokens[row, : whole.counts[row]].tolist() for row in range(2)]


def test_every_hypothesis_of_a_beam_speaks_by_the_timetable():
    model = _speaker()
    samples = _sound(2, 20 * model.samples_per_step)
    lengths = jnp.full(2, samples.shape[1])
    graphdef, variables = nnx.split(model)

    @jax.jit
    def search(variables, samples):
        model = nnx.merge(graphdef, variables)
        return beam_search(model, *model.encode(*model.features(samples, lengths)), width=4)

    beams = search(variables, samples)
    assert np.isfinite(beams.scores).all()
    for row in range(2):
        np.testing.assert_array_equal(beams.hypotheses.counts[row], len(_due(row, 20)))


def test_bars_are_met_on_their_own_side():
    assert inference.SPEED.met(300)
    assert not inference.SPEED.met(299)
    assert inference.OVER_BARE.met(1.3)
    assert not inference.OVER_BARE.met(1.31)


def test_a_large_model_has_no_bar_of_speed_and_few_sessions_none_of_gain():
    record = {"parameters": 3e7, "search_share": 0.1, "over_bare": None, "beam_ratio": 3.0}
    streams = [{"sessions": 1, "gain": 1.0}, {"sessions": 256, "gain": 12.0}]
    found = dict(inference.bars({**record, "streams": streams}))
    assert found == {inference.SHARE: 0.1, inference.BEAM_RATIO: 3.0, inference.GAIN: 12.0}
    few = list(inference.bars({**record, "streams": streams[:1]}))
    assert [bar for bar, _ in few] == [inference.SHARE, inference.BEAM_RATIO]


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    rows = []
    for i in range(8):
        samples = _sound(1, 8000 + 100 * i)[0]
        soundfile.write(tmp_path / f"{i}.wav", samples, RATE)
        rows.append({"audio_filepath": f"{i}.wav", "text": "one", "duration": len(samples) / RATE})
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def _run(main: Callable[[], None], *arguments: str) -> None:
    sys.argv = ["benchmark", *arguments]
    main()


@pytest.fixture(autouse=True)
def _same_argv(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.mark.slow
def test_quick_prints_a_row_for_all_that_is_measured(sentences: Path, capsys):
    _run(inference.main, "--quick", "--data", str(sentences), "rnnt-tiny")
    said = capsys.readouterr().out
    for title in ("parts, ms", "whole program", "streams", "bar"):
        assert f"\n{title}  " in said
    # No result of the model is on this data, so its weights are not used.
    assert "rnnt-tiny   random" in said
    verdicts = [line.split()[-1] for line in said.splitlines() if line.split()]
    assert verdicts.count("met") + verdicts.count("missed") == 4


@pytest.mark.parametrize("arguments", [["rnnt-tini"], ["--rows", "0"], ["--data", "no.jsonl"]])
def test_mistakes_end_in_one_sentence(arguments: list[str], capsys):
    with pytest.raises(SystemExit) as error:
        _run(inference.main, *arguments)
    assert error.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_grammar_of_words_and_a_language_model_without_unknown_ones(tmp_path: Path):
    text = Path(pocketsphinx.grammar(["one", "two"], tmp_path)).read_text()
    assert "public <words> = ( one | two )+;" in text
    path = pocketsphinx.language_model(["one two", "two", "three two"], ["one", "two"], tmp_path)
    lines = Path(path).read_text().split("\n")
    unigrams = lines[lines.index("\\1-grams:") + 1 : lines.index("\\2-grams:") - 1]
    assert {line.split("\t")[1] for line in unigrams} == {"one", "two", "</s>", "<s>"}


def test_without_pocketsphinx_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    monkeypatch.setattr(pocketsphinx, "one_core", lambda: None)
    with pytest.raises(SystemExit) as error:
        _run(pocketsphinx.main)
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said == "parley: this needs pocketsphinx: pip install pocketsphinx.\n"
