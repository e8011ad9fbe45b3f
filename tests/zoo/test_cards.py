"""Cards: ours and huggingface_hub's readings agree, and a person's words stay."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import given
from hypothesis import strategies as st

from parley.data.errors import InputError
from parley.zoo.cards import (
    Facts,
    Measurement,
    Training,
    new_card,
    read_card,
    render,
    update_card,
    write_card,
)

FACTS = Facts(
    name="rnnt-test",
    family="rnnt",
    description="A test: of 100 % nothing | at all.",
    parameters=1_234_567,
    vocab_size=128,
    streaming=True,
    step_ms=80.0,
    gflop_per_s=0.054,
    encoder_gflop_per_s=0.0289,
    state_kib=7.19,
    status="trained",
    training=Training(
        command="parley train rnnt-test --steps 10",
        data="words?speakers=20",
        date="2026-01-02",
        device="2 cores of a machine",
        steps=10,
        seconds=61.5,
        audio_hours=1.25,
    ),
)
RESULT = Measurement(
    data="assistant?noise=10",
    split="test",
    name="assistant, 10 dB",
    wer=4.25,
    low=3.0,
    high=5.5,
    substitutions=3,
    deletions=2,
    insertions=1,
    words=141,
    utterances=30,
    speakers=5,
    command="parley evaluate rnnt-test --data 'assistant?noise=10' --split test",
    date="2026-01-03",
    device="2 cores of a machine",
    groups={"accent": {"rp": {"wer": 2.5, "low": 1.0, "high": 4.0, "words": 70, "speakers": 3}}},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_card(tmp_path / "README.md", new_card(FACTS))
    return tmp_path / "README.md"


def load_theirs(path: Path) -> ModelCardData:
    data = ModelCard.load(path).data
    assert isinstance(data, ModelCardData)
    return data


def test_what_is_written_is_read(path: Path):
    card = new_card(FACTS).with_result(RESULT)
    write_card(path, card)
    again = read_card(path)
    assert again.facts == FACTS
    assert again.results == (RESULT,)
    write_card(path, again)
    assert render(read_card(path)) == render(again)


def test_huggingface_reads_the_same(path: Path):
    update_card(path, RESULT)
    theirs = load_theirs(path)
    assert theirs.model_name == "rnnt-test"
    assert theirs.license == "apache-2.0"
    assert theirs.pipeline_tag == "automatic-speech-recognition"
    assert theirs.get("status") == "trained"
    assert theirs.eval_results is not None
    [result] = theirs.eval_results
    assert result.task_type == "automatic-speech-recognition"
    assert (result.metric_type, result.metric_value) == ("wer", 4.25)
    assert (result.dataset_type, result.dataset_config) == ("assistant", "noise=10")
    assert result.dataset_split == "test"
    assert result.metric_args is not None
    for key in ("command", "date", "device", "data", "words", "low", "high"):
        assert result.metric_args[key] == getattr(RESULT, key)
    # And what they write, we read.
    card = ModelCard.load(path)
    card.save(path)
    assert read_card(path).results == (RESULT,)


def test_results_of_several_data_stay_apart(path: Path):
    others = [
        dataclasses.replace(RESULT, data=data, split=split, wer=wer)
        for wer, (data, split) in enumerate(
            [("assistant", "test"), ("assistant", "dev"), ("a.jsonl?take=1", ""), ("words", "test")]
        )
    ]
    for other in others:
        update_card(path, other)
    assert list(read_card(path).results) == others
    theirs = load_theirs(path).eval_results
    assert theirs is not None
    assert sorted(r.metric_value for r in theirs) == [0, 1, 2, 3]


def test_a_newer_measurement_takes_the_place_of_the_older(path: Path):
    update_card(path, RESULT)
    newer = dataclasses.replace(RESULT, wer=3.5, low=None, high=None, groups={})
    update_card(path, newer)
    assert read_card(path).results == (newer,)
    text = path.read_text()
    assert "3.50 %" in text
    assert "4.25" not in text


def test_every_number_says_where_it_is_from(path: Path):
    update_card(path, RESULT)
    text = path.read_text().split("---", 2)[2]
    for fact in (RESULT.command, RESULT.date, RESULT.device, "4.25 % (3.00 to 5.50)", "| rp |"):
        assert fact in text


def test_what_a_person_wrote_stays(path: Path):
    text = path.read_text()
    text = text.replace("Not yet written.", "Only for cats.\n\n## Attribution\n\nBy \\1 people.")
    text = text.replace("license: apache-2.0", "license: cc-by-sa-4.0\nbase_model: someone/else")
    text = text.replace("- jax", "- jax\n- cats")
    path.write_text(text)
    update_card(path, RESULT)
    update_card(path, dataclasses.replace(RESULT, wer=1.0))
    after = path.read_text()
    for kept in ("Only for cats.", "By \\1 people.", "base_model: someone/else", "- cats"):
        assert kept in after
    assert read_card(path).facts.license == "cc-by-sa-4.0"
    assert "| licence | cc-by-sa-4.0 |" in after
    assert after.count("## Results") == 1
    assert after.count("parley:results") == 2


def test_a_generated_block_that_was_taken_out_comes_back(path: Path):
    text = path.read_text()
    first, last = "<!-- parley:results (generated) -->", "<!-- /parley:results -->"
    path.write_text(text[: text.index(first)] + text[text.index(last) + len(last) :])
    update_card(path, RESULT)
    assert "4.25 %" in path.read_text()


def test_an_untrained_card_has_no_numbers():
    facts = dataclasses.replace(FACTS, status="untrained", training=None)
    text = render(new_card(facts))
    metadata = yaml.safe_load(text.split("---")[1])
    assert metadata["status"] == "untrained"
    assert "model-index" not in metadata
    assert "Nothing has been measured yet." in text


def test_cost_is_shown_where_it_is_known(path: Path):
    text = path.read_text()
    assert "| cost | 0.054 GFLOP per second of audio, of which the encoder 0.0289 |" in text
    assert "| state of a stream | 7.19 KiB |" in text


def test_a_card_from_before_cost_was_counted(path: Path):
    cost = ("gflop_per_s", "encoder_gflop_per_s", "state_kib")
    lines = path.read_text().splitlines(keepends=True)
    older = [line for line in lines if not line.strip().startswith(cost)]
    assert len(older) == len(lines) - len(cost)
    path.write_text("".join(older))
    card = read_card(path)
    assert card.facts == dataclasses.replace(FACTS, **dict.fromkeys(cost))
    assert "| cost |" not in render(card)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# no metadata\n", "does not begin with metadata"),
        ("---\na: [1\n---\n", "not valid YAML at line"),
        ("---\nlicense: mit\n---\n", "not those of a parley card"),
        ("---\n- a\n---\n", "not those of a parley card"),
    ],
)
def test_a_card_that_cannot_be_read(tmp_path: Path, content: str, message: str):
    path = tmp_path / "README.md"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_card(path)
    with pytest.raises(InputError, match="missing"):
        read_card(tmp_path / "absent.md")


@given(
    st.builds(
        Measurement,
        data=st.sampled_from(["a", "b.jsonl?x=1&y=!2", "a?x=1 + b"]),
        split=st.sampled_from(["", "test"]),
        name=st.text("ab: '\"#|-", min_size=1),
        wer=st.floats(0, 500),
        low=st.none() | st.floats(0, 100),
        high=st.none() | st.floats(0, 100),
        command=st.text("ab: '\"#|-\\", min_size=1),
        date=st.just("2026-01-01"),
        # Of what can be printed: YAML reads U+0085 as the end of a line.
        device=st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))),
        **dict.fromkeys(
            ["substitutions", "deletions", "insertions", "words", "utterances", "speakers"],
            st.integers(0, 10**9),
        ),
    )
)
def test_any_measurement_survives_its_card(tmp_path_factory: pytest.TempPathFactory, result):
    path = tmp_path_factory.mktemp("card") / "README.md"
    write_card(path, new_card(FACTS).with_result(result))
    assert read_card(path).results == (result,)
