"""Comparisons: what two cards share, and differences over the speakers of both."""

import json
from pathlib import Path

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.metrics.bootstrap import speaker_bootstrap
from parley.zoo import cli
from parley.zoo.compare import compare, paired

Output = pytest.CaptureFixture[str]


def results(path: Path, errors: np.ndarray, words: int = 10, skip: int = 0) -> Path:
    """One line an utterance of errors [speakers, utterances]."""
    rows = [
        {
            "id": f"{s}-{u}",
            "speaker": f"s{s}",
            "reference": f"words of {s} {u}",
            "hypothesis": "",
            "errors": int(errors[s, u]),
            "words": words,
        }
        for s in range(errors.shape[0])
        for u in range(errors.shape[1])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[skip:]))
    return path


def test_cards_side_by_side():
    found = compare("rnnt-tiny", "lstm-tiny", "ecapa-512")
    first = found.conditions[0]
    assert (first.data, first.metric) == ("words", "WER")
    assert first.rates[0] is not None
    assert first.rates[0].error == 5.15
    assert first.rates[2] is None
    assert all(any(condition.rates) for condition in found.conditions)


def test_a_difference_is_paired_by_speaker(tmp_path: Path):
    rng = np.random.default_rng(0)
    hard = rng.integers(0, 6, size=(30, 1))
    base = hard + rng.integers(0, 2, size=(30, 8))
    better = np.maximum(base - 1, 0)
    a, b = results(tmp_path / "a.jsonl", base), results(tmp_path / "b.jsonl", better)
    found = paired(a, b)
    assert found.differs
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high < 0
    # Independent intervals of the two overlap: speakers scatter more than the systems differ.
    ends = [
        speaker_bootstrap(e.ravel().tolist(), [10] * e.size, [f"s{i // 8}" for i in range(e.size)])
        for e in (base, better)
    ]  # fmt: skip
    assert ends[0][0] < ends[1][1]
    same = paired(a, a)
    assert (same.difference, same.low, same.high, same.differs) == (0, 0, 0, False)
    turned = paired(b, a)
    assert turned.difference == -found.difference


def test_only_what_both_heard_counts(tmp_path: Path):
    errors = np.ones((4, 3), int)
    a = results(tmp_path / "a.jsonl", errors)
    b = results(tmp_path / "b.jsonl", errors, skip=2)
    found = paired(a, b)
    assert (found.utterances, found.left_out, found.speakers) == (10, 2, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "b.jsonl:1 is no line"),
        ("[]", "b.jsonl:1 is no line"),
        ('{"id": 3, "speaker": "", "reference": "", "errors": 1, "words": 1}', "is no line"),
        ('{"id": "0-0", "speaker": "", "reference": "x", "errors": -1, "words": 1}', "is no line"),
        ('{"id": "0-0", "speaker": "", "reference": "x", "errors": 1, "words": 1}', "different"),
        ('{"id": "z", "speaker": "", "reference": "x", "errors": 1, "words": 1}', "share no"),
        ("", "share no"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, line: str, message: str):
    a = results(tmp_path / "a.jsonl", np.ones((2, 2), int))
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        paired(a, tmp_path / "b.jsonl")
    with pytest.raises(InputError, match="missing"):
        paired(a, tmp_path / "absent.jsonl")


def test_the_command(tmp_path: Path, capsys: Output):
    a = results(tmp_path / "a.jsonl", np.full((8, 3), 3))
    b = results(tmp_path / "b.jsonl", np.full((8, 3), 1))
    models = ["compare", "rnnt-tiny", "tt-tiny-assistant"]
    assert cli.main([*models, "--utterances", str(a), str(b)]) == 0
    text = capsys.readouterr().out
    assert "3.07 % (2.36 to 3.85)" in text
    assert "-20.00 points (-20.00 to -20.00); tt-tiny-assistant makes fewer errors." in text
    plot = tmp_path / "c.svg"
    arguments = [*models, "--utterances", str(a), str(b), "--plot", str(plot), "--json"]
    assert cli.main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["paired"][0]["differs"] is True
    assert record["models"][0]["name"] == "rnnt-tiny"
    assert plot.read_text().count("<svg") == 1
    for wrong, message in (
        (["compare", "rnnt-tiny"], "two models"),
        ([*models, "--utterances", str(a)], "1 files for 2 models"),
        (["compare", "rnnt-tiny", "rnnt-30m", "--plot", str(plot)], "nothing to draw"),
        (["compare", "rnnt-tiny", "rnnt-tinny"], "did you mean"),
    ):
        assert cli.main(wrong) == 2
        assert message in capsys.readouterr().err
