"""The calibrator in a model's folder: kept, read, refused; and the evaluation that fits it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley import zoo
from parley.data.errors import InputError
from parley.metrics.calibration import Calibrator
from parley.metrics.wer import WordErrors
from parley.zoo import cli
from parley.zoo.calibration import CALIBRATION, calibrator_for, read_calibrator, write_calibrator
from parley.zoo.evaluation import Evaluation, HeardWord, Scored
from parley.zoo.evaluation_plot import write_plot

Output = pytest.CaptureFixture[str]


def evaluation(words: list[tuple[float, bool]], calibrated: bool = False) -> Evaluation:
    """An utterance of two words for each pair of (confidence, right), of five speakers in turn."""
    pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
    scored = [
        Scored(
            f"u{i}",
            f"s{i % 5}",
            "",
            "",
            WordErrors(),
            1.0,
            heard=tuple(HeardWord("a", c, r) for c, r in pair),
        )
        for i, pair in enumerate(pairs)
    ]
    return Evaluation(scored, [], 1.0, 1.0, calibrated)


def drawn(n: int, slope: float, intercept: float) -> list[tuple[float, bool]]:
    """Confidences, and words that are right as `Calibrator(slope, intercept)` says."""
    rng = np.random.default_rng(0)
    truth = Calibrator(slope, intercept)
    return [(float(p), bool(rng.random() < truth(p))) for p in rng.beta(3, 1, n)]


def test_what_is_written_is_read_again(tmp_path: Path):
    assert read_calibrator(tmp_path) is None
    found = evaluation(drawn(4000, 0.8, 1.0))
    fitted = calibrator_for(found)
    assert fitted.slope == pytest.approx(0.8, abs=0.15)
    assert fitted.intercept == pytest.approx(1.0, abs=0.15)
    path = write_calibrator(tmp_path, fitted, found, "parley evaluate m --data d --calibrate")
    assert path == tmp_path / CALIBRATION
    again = read_calibrator(tmp_path)
    assert again is not None
    assert (again.slope, again.intercept) == pytest.approx(
        (fitted.slope, fitted.intercept), abs=1e-4
    )
    record = json.loads(path.read_text())
    assert (record["words"], record["right"]) == (4000, sum(found.judged()[1]))
    assert record["command"].endswith("--calibrate")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "\xff", '{"slope": "a", "intercept": 0}'),
        *('{"slope": -1, "intercept": 0}', '{"slope": NaN, "intercept": 0}'),
        '{"slope": 1, "intercept": Infinity}',
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str):
    (tmp_path / CALIBRATION).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"calibration\.json is damaged: delete it"):
        read_calibrator(tmp_path)


def test_what_no_calibrator_can_be_fitted_to():
    with pytest.raises(InputError, match="100 words are right and 3 wrong"):
        calibrator_for(evaluation([(0.9, True)] * 100 + [(0.5, False)] * 3))
    with pytest.raises(InputError, match="0 words are right and 0 wrong"):
        calibrator_for(evaluation([]))
    with pytest.raises(InputError, match="surest of are not the ones it has right"):
        calibrator_for(evaluation([(0.9, False), (0.1, True)] * 100))


def test_a_picture_is_drawn_of_any_words_and_named_as_one(tmp_path: Path):
    for i, words in enumerate([drawn(300, 1.0, 0.0), [(1.0, True)], [(0.0, False), (0.5, True)]]):
        path = tmp_path / "new" / f"{i}.svg"
        write_plot(evaluation(words), "m on d", path)
        first = path.read_bytes()
        assert b"raw confidence" in first
        write_plot(evaluation(words), "m on d", path)
        assert path.read_bytes() == first  # no date, no chance
    write_plot(evaluation(drawn(50, 1.0, 0.0), calibrated=True), "m on d", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no picture's name"):
        write_plot(evaluation([(0.5, True)]), "", tmp_path / "a.txt")
    with pytest.raises(InputError, match="no words were heard"):
        write_plot(evaluation([]), "", tmp_path / "b.png")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to calibrate."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture
def manifest(model, sound, tmp_path: Path) -> Path:
    """Recordings whose texts are what the model hears, but for its least sure words."""
    results = []
    for i in range(12):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, sound(4.0, 90 + i), 16_000)
        results.append((path, model.transcribe(path)))
    median = np.median([w.confidence for _, r in results for w in r.words])
    lines = [
        {
            "audio_filepath": path.name,
            "text": " ".join(w.text if w.confidence > median else "surely" for w in result.words),
            "duration": result.duration,
            "speaker": f"s{i % 4}",
            "split": "dev",
        }
        for i, (path, result) in enumerate(results)
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return path


def test_evaluate_says_what_confidences_are_worth(folder: Path, manifest: Path, capsys: Output):
    picture = manifest.parent / "reliability.png"
    out = manifest.parent / "scores.jsonl"
    arguments = ["evaluate", str(folder), "--data", str(manifest)]
    assert cli.main([*arguments, "--plot", str(picture), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "(raw: the model has no calibrator" in text
    assert "ECE" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    scores = [json.loads(line) for line in out.read_text().splitlines()]
    for score in scores:
        assert " ".join(w["text"] for w in score["heard"]) == score["hypothesis"]
        n_right = sum(w["right"] for w in score["heard"])
        assert n_right == score["words"] - score["substitutions"] - score["deletions"]

    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["confidence"]
    assert found["calibrated"] is False
    assert found["words"] == sum(len(s["heard"]) for s in scores)
    assert found["auc"] > 0.95  # the least sure words are the wrong ones
    assert sum(b["words"] for b in found["bins"]) == found["words"]


def test_calibrate_writes_into_the_folder(folder: Path, manifest: Path, capsys: Output):
    arguments = ["evaluate", str(folder), "--data", f"{manifest}?split=dev", "--calibrate"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert "(raw)" in captured.out
    assert "(calibrated, on the words that it was fitted to)" in captured.out
    assert CALIBRATION in captured.err
    fitted = read_calibrator(folder)
    assert cli.main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["confidence"]["calibrated"] is False
    # Fitted anew to what the model says by itself, not to what the first calibrator made of it.
    assert fitted == read_calibrator(folder) == Calibrator(**record["calibrator"])


def test_a_calibrator_is_applied_wherever_words_are_made(folder: Path, model, sound):
    (folder / CALIBRATION).write_text('{"slope": 0.5, "intercept": -1.0}')
    calibrated, moved = zoo.load(folder), Calibrator(0.5, -1.0)
    audio = sound(4.0, 7)
    words = model.transcribe(audio).words
    expected = [moved(w.confidence) for w in words]
    assert expected
    stream = calibrated.stream()
    stream.feed(audio)
    pool = calibrated.pool(1)
    session = pool.open()
    session.feed(audio)
    for result in (calibrated.transcribe(audio), stream.finish(), session.finish()):
        assert [w.text for w in result.words] == [w.text for w in words]
        assert [w.confidence for w in result.words] == pytest.approx(expected, abs=1e-3)


def test_a_calibrated_model_is_called_so(folder: Path, manifest: Path, capsys: Output):
    (folder / CALIBRATION).write_text('{"slope": 0.5, "intercept": 1.0}')
    assert cli.main(["evaluate", str(folder), "--data", str(manifest)]) == 0
    assert "(calibrated)" in capsys.readouterr().out
    (folder / CALIBRATION).write_text("{}")
    assert cli.main(["evaluate", str(folder), "--data", str(manifest)]) == 2
    assert "calibration.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "assistant"],
        ["--data", "words?noise=10", "--split", "test"],
        ["--data", "librispeech:archive", "--split", "test-other"],
        ["--data", "my.jsonl?split=test"],
        ["--data", "words + my.jsonl?split=dev,test-clean", "--split", "dev"],
    ],
)
def test_nothing_is_calibrated_on_a_test_set(folder: Path, arguments: list[str], capsys: Output):
    assert cli.main(["evaluate", str(folder), *arguments, "--calibrate"]) == 2
    assert "cannot be tested on it any more" in capsys.readouterr().err
    assert not (folder / CALIBRATION).exists()


def test_a_wrong_picture_is_refused_before_the_work(folder: Path, capsys: Output):
    arguments = ["evaluate", str(folder), "--data", "nothing.jsonl", "--plot", "a.txt"]
    assert cli.main(arguments) == 2
    assert "a.txt is no picture's name" in capsys.readouterr().err
