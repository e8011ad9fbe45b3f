"""Several workers write a manifest's shards; needs the extra `beam`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.data.corpus import open_corpus
from parley.data.errors import InputError
from tones import RATE, ToneCorpus

pytest.importorskip("apache_beam", reason="needs the extra beam")

from parley.data.prepare_beam import prepare


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_manifest_is_prepared(tmp_path: Path, workers: int):
    corpus, rows = ToneCorpus(24), []
    for i, utterance in enumerate(corpus.items):
        soundfile.write(tmp_path / f"{i}.flac", corpus.samples(i), RATE)
        rows.append(
            {"audio_filepath": f"{i}.flac", "text": utterance.text, "speaker": utterance.speaker}
        )
    (tmp_path / "broken.flac").write_bytes(b"no sound")
    rows.append({"audio_filepath": "broken.flac", "text": "red", "duration": 1.0})
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    shards = prepare(str(manifest), "train", out, "mine", workers=workers, shards=4)
    assert sum(s.count for s in shards) == 24
    assert [r.where for s in shards for r in s.rejected] == ["broken.flac"]
    read = open_corpus(f"tfds:{out}", "train")
    heard = {read.utterance(i).id: read.samples(i) for i in range(len(read))}
    for i in range(24):
        np.testing.assert_array_equal(heard[f"{i}.flac"], corpus.samples(i))
    with pytest.raises(InputError, match="--shards 99"):
        prepare(str(manifest), "train", out, "mine", shards=99)
