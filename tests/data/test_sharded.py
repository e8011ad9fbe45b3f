"""Shards hold the corpus, each recording once, and `tfds:FOLDER` reads them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from parley.data.sharded import finish, members, read_reports, write_report, write_shard
from tones import ToneCorpus


class Damaged(ToneCorpus):
    def samples(self, i: int) -> np.ndarray:
        if i == 4:
            raise InputError("tone-4 is damaged.")
        return super().samples(i)


def test_every_item_is_in_one_shard():
    found = [i for shard in range(4) for i in members(11, shard, 4)]
    assert sorted(found) == list(range(11))


def test_a_corpus_comes_back_from_its_shards(tmp_path: Path):
    corpus = Damaged(20)
    corpus.items = [
        replace(u, metadata={"age": i, "from": "Zürich"}) for i, u in enumerate(corpus.items)
    ]
    folder, reports = tmp_path / "set", tmp_path / "reports"
    folder.mkdir()
    reports.mkdir()
    for number in (2, 0, 1):
        write_report(reports, write_shard(corpus, folder, "tones", "train", number, 3))
    rejected = finish(folder, "tones", "train", read_reports(reports, 3))
    assert [r.where for r in rejected] == ["tone-4"]
    assert "tone-4" in (folder / "quarantine.jsonl").read_text()
    read = open_corpus(f"tfds:{folder}", "train")
    assert len(read) == 19
    where = {u.id: i for i, u in enumerate(corpus.items)}
    for i in range(len(read)):
        utterance = read.utterance(i)
        before = where[utterance.id]
        assert utterance.text == corpus.items[before].text
        assert utterance.speaker == corpus.items[before].speaker
        assert utterance.metadata == {"age": before, "from": "Zürich"}
        np.testing.assert_array_equal(read.samples(i), corpus.samples(before))
    assert len(open_corpus(f"tfds:{folder}?age=3", "train")) == 1


def test_a_shard_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="shard 0 of 2 was not written"):
        read_reports(tmp_path, 2)
