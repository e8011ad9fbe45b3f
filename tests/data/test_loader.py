"""The loader: the same batches for the same seed and step, whoever asks, whatever breaks."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from parley.data.augment import AugmentConfig
from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.data.loader import DataConfig, evaluation_batches, make_loader
from parley.data.tokenizer import Tokenizer

CONFIG = DataConfig(batch_seconds=12.0, buckets=2, max_padding=1.0, prefetch=2)


@pytest.fixture(scope="module")
def tokenizer():
    words = ["zero one two", "three four five", "six seven eight nine"]
    return Tokenizer.train(words * 5, kind="char")


def _loader(spec, tokenizer, *, config=CONFIG, augment=AugmentConfig(), seed=1, **kwargs):  # noqa: B008
    return make_loader(open_corpus(str(spec)), tokenizer, config, augment, seed=seed, **kwargs)


def _same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


def test_a_batch_is_what_it_says(manifest, tokenizer):
    corpus = open_corpus(str(manifest))
    loader = make_loader(corpus, tokenizer, CONFIG, seed=0, multiple=4)
    for _ in range(10):
        batch = next(loader)
        assert {key: value.dtype.name for key, value in batch.items()} == {
            "samples": "int16",
            "sample_lengths": "int32",
            "labels": "int32",
            "label_lengths": "int32",
            "index": "int32",
        }
        assert len(batch["index"]) % 4 == 0
        for row, index in enumerate(batch["index"].tolist()):
            count, length = batch["label_lengths"][row], batch["sample_lengths"][row]
            text = corpus.utterance(index).text
            assert tokenizer.decode(batch["labels"][row, :count].tolist()) == text
            assert not batch["labels"][row, count:].any()
            assert np.array_equal(batch["samples"][row, :length], corpus.samples(index))
            assert not batch["samples"][row, length:].any()


def test_shapes_are_those_of_the_buckets(manifest, tokenizer):
    loader = _loader(f"{manifest}?join=1-3", tokenizer)
    shapes = {tuple(batch[k].shape for k in ("samples", "labels")) for batch, _ in
              zip(loader, range(60), strict=False)}  # fmt: skip
    allowed = {
        ((bucket.size, bucket.samples), (bucket.size, width))
        for bucket, width in zip(loader.plan.buckets, loader.plan.label_lengths, strict=True)
    }
    assert shapes <= allowed
    assert len(shapes) == 2


@pytest.mark.parametrize("query", ["", "?join=1-3&draws=30"])
def test_going_on_at_a_step_equals_an_unbroken_run(manifest, tokenizer, query):
    unbroken = _loader(f"{manifest}{query}", tokenizer)
    batches = [next(unbroken) for _ in range(25)]  # beyond the first epoch
    assert unbroken.step == 25
    assert unbroken.plan.batch(24).epoch > 0
    for start in (3, 17):
        resumed = _loader(f"{manifest}{query}", tokenizer, start_step=start)
        assert all(_same(next(resumed), batches[step]) for step in range(start, 25))
    unbroken.seek(5)
    assert _same(next(unbroken), batches[5])
    other = _loader(f"{manifest}{query}", tokenizer, seed=2)
    assert not all(_same(next(other), batches[step]) for step in range(5))


def test_threads_and_cache_change_nothing(manifest, tokenizer):
    one = _loader(manifest, tokenizer, config=DataConfig(batch_seconds=12.0))
    two = _loader(
        manifest,
        tokenizer,
        config=DataConfig(batch_seconds=12.0, workers=8, prefetch=16, cache_gb=0.0),
    )
    assert all(_same(next(one), next(two)) for _ in range(30))


@pytest.mark.parametrize("count", [2, 4])
def test_process_slices_make_one_batch(manifest, tokenizer, count):
    whole = _loader(manifest, tokenizer, multiple=4)
    parts = [
        _loader(manifest, tokenizer, multiple=4, process_index=i, process_count=count)
        for i in range(count)
    ]
    for _ in range(6):
        batch, slices = next(whole), [next(part) for part in parts]
        assert _same(batch, {k: np.concatenate([s[k] for s in slices]) for k in batch})


def test_an_item_is_augmented_anew_in_every_epoch(manifest, tokenizer):
    loader = _loader(f"{manifest}?limit=1", tokenizer, augment=AugmentConfig(speed=(1.0,)))
    first, second = next(loader), next(loader)
    assert first["index"][0] == second["index"][0] == 0
    assert not np.array_equal(first["samples"], second["samples"])


def _move(corpus, index, path):
    """Makes a recording another file after the corpus was opened, as a disk may."""
    recording = corpus.recordings[index]
    corpus.recordings[index] = dataclasses.replace(recording, path=path)


def test_a_bad_recording_is_replaced_with_one_warning(manifest, tokenizer, tmp_path):
    corpus = open_corpus(str(manifest))
    whole = (manifest.parent / "7.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "long.flac", np.ones(80_000, np.int16), 16_000)
    for index, name in [(7, "cut.flac"), (8, "gone.flac"), (9, "long.flac")]:
        _move(corpus, index, tmp_path / name)
    loader = make_loader(corpus, tokenizer, CONFIG, seed=1)
    with pytest.warns(UserWarning, match="left out of training") as caught:
        batches = [next(loader) for _ in range(3 * loader.plan.steps_in_epoch())]
    loader.close()
    seen = np.concatenate([batch["index"] for batch in batches])
    assert not {7, 8, 9} & set(seen.tolist())
    assert len(caught) == 3
    reasons = {row.where: row.reason for row in loader.quarantine}
    assert "cut short" in reasons["7.flac"]
    assert "no such recording" in reasons["8.flac"]
    assert "longer than its stated duration" in reasons["9.flac"]
    # A resumed run meets the same files and replaces them alike.
    again = make_loader(corpus, tokenizer, CONFIG, seed=1, start_step=4)
    with pytest.warns(UserWarning, match="left out"):
        assert all(_same(next(again), batches[step]) for step in range(4, len(batches)))
    again.close()


def test_a_corpus_that_cannot_be_read_at_all_says_so(manifest, tokenizer, tmp_path):
    corpus = open_corpus(f"{manifest}")
    for i in range(60):
        _move(corpus, i, tmp_path / "gone.flac")
    loader = make_loader(corpus, tokenizer, CONFIG, seed=1)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InputError, match=r"none of the \d+ recordings of a batch can be read"),
    ):
        next(loader)
    loader.close()


def test_texts_that_cannot_be_spelled_are_left_out(manifest, tokenizer, tmp_path):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["audio_filepath"] = str(manifest.parent / row["audio_filepath"])
        row["text"] = "ñandú" if i % 3 == 0 else row["text"]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    loader = _loader(path, tokenizer)
    seen = {int(i) for _ in range(20) for i in next(loader)["index"]}
    assert {i % 3 for i in seen} == {1, 2}
    assert len(loader.quarantine) == 20
    assert "does not know 'ñ'" in loader.quarantine[0].reason
    for query in ("speaker=ann", "speaker=ann&join=1-3"):
        with pytest.raises(InputError, match="no text of it can be used"):
            _loader(f"{path}?{query}", tokenizer)


def test_slow_speeds_alone_leave_room_for_every_label(manifest, tokenizer):
    """What 0.9 would make too long for max_seconds is played as it was, with all its words."""
    config = dataclasses.replace(CONFIG, max_seconds=2.0)
    augment = AugmentConfig(speed=(0.9,))
    loader = _loader(f"{manifest}?join=2", tokenizer, config=config, augment=augment)
    for _ in range(20):
        next(loader)
    assert not loader.quarantine


def test_evaluation_reads_every_recording_once(manifest):
    corpus = open_corpus(str(manifest))
    shapes, seen = set(), []
    for batch in evaluation_batches(corpus, batch_seconds=10.0, buckets=3, multiple=4):
        shapes.add(batch["samples"].shape)
        for row, index in enumerate(batch["index"].tolist()):
            length = batch["sample_lengths"][row]
            if index < 0:
                assert length == 0
                assert not batch["samples"][row].any()
            else:
                seen.append(index)
                assert np.array_equal(batch["samples"][row, :length], corpus.samples(index))
    assert sorted(seen) == list(range(60))
    assert len(shapes) <= 3


def test_evaluation_goes_on_without_bad_recordings(manifest, tmp_path):
    corpus = open_corpus(str(manifest))
    _move(corpus, 5, tmp_path / "gone.flac")
    rejected = []
    seen = [
        int(i)
        for batch in evaluation_batches(corpus, quarantine=rejected)
        for i in batch["index"]
        if i >= 0
    ]
    assert sorted(seen) == [i for i in range(60) if i != 5]
    assert [row.where for row in rejected] == ["5.flac"]
