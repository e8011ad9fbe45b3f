"""Trial lists: what is written is read, what is made compares whom it should."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from parley.data.corpus import Utterance, open_corpus
from parley.data.errors import InputError
from parley.data.trials import (
    Trial,
    make_trials,
    name_trials,
    pair_up,
    read_trials,
    write_trials,
)
from parley.data.voxceleb import open_voxceleb


class Listed:
    """Utterances without audio."""

    name = "listed"

    def __init__(self, speakers: int = 6, each: int = 5, gender=lambda i: "fm"[i % 2]):
        self.items = [
            Utterance(f"s{i}/{j}.wav", "", 1.0, f"s{i}", {"gender": gender(i)})
            for i in range(speakers)
            for j in range(each)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def utterance(self, i: int) -> Utterance:
        return self.items[i]

    def samples(self, i: int) -> np.ndarray:
        raise AssertionError("trials are made without listening")


def test_a_list_in_voxcelebs_format_survives(tmp_path: Path):
    trials = [Trial(True, "id1/a/1.wav", "id1/b/2.wav"), Trial(False, "id1/a/1.wav", "id2/c/3.wav")]
    write_trials(tmp_path / "t.txt", trials)
    assert (tmp_path / "t.txt").read_text().splitlines()[0] == "1 id1/a/1.wav id1/b/2.wav"
    assert read_trials(tmp_path / "t.txt") == trials


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 a b\n2 a c\n", r"t\.txt:2 is no trial"),
        ("1 a b\n0 a\n", r"t\.txt:2 is no trial"),
        ("1 a b\n\n1 a c\n", "needs trials of one speaker"),
    ],
)
def test_a_broken_list_is_named_with_its_line(tmp_path: Path, content: str, message: str):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        read_trials(tmp_path / "t.txt")


def test_a_list_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"nothing\.txt cannot be read"):
        read_trials(tmp_path / "nothing.txt")


def test_a_name_with_a_blank_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot name 'a b'"):
        write_trials(tmp_path / "t.txt", [Trial(True, "a b", "c")])


def test_trials_are_found_in_their_corpus_or_the_first_missing_one_is_named():
    corpus = Listed()
    made = make_trials(corpus)
    again = pair_up(name_trials(made, corpus), corpus, "list")
    for a, b in zip(made, again, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(
        InputError, match=r"list names s9/9\.wav, which listed does not have \(1 of"
    ):
        pair_up([Trial(True, "s0/0.wav", "s9/9.wav")], corpus, "list")
    with pytest.raises(InputError, match=r"says 1 of s0/0\.wav and s1/0\.wav"):
        pair_up([Trial(True, "s0/0.wav", "s1/0.wav")], corpus, "list")


def test_made_trials_are_right_different_and_half_of_the_others_alike():
    corpus = Listed(speakers=10, each=8)
    made = make_trials(corpus, targets=6, others=20)
    pairs = set()
    alike = 0
    for same, a, b in zip(*made, strict=True):
        first, second = corpus.utterance(a), corpus.utterance(b)
        assert a != b
        assert (first.speaker == second.speaker) == same
        pairs.add((min(a, b), max(a, b)))
        alike += not same and first.metadata["gender"] == second.metadata["gender"]
    assert len(pairs) == len(made.same)
    assert made.same.sum() == 60
    others = len(made.same) - 60
    assert 180 <= others <= 200
    # Half by choice, and 4 of 9 strangers by chance.
    assert 0.6 < alike / others < 0.85
    np.testing.assert_array_equal(made.enrol, make_trials(corpus, targets=6, others=20).enrol)
    assert (made.enrol != make_trials(corpus, targets=6, others=20, seed=1).enrol[: len(made.enrol)]
            ).any()  # fmt: skip


def test_speakers_of_no_known_group_are_compared_with_anybody():
    made = make_trials(Listed(speakers=3, gender=lambda i: None), targets=3, others=8)
    assert (~made.same).sum() > 10


def test_a_corpus_without_pairs_is_named():
    with pytest.raises(InputError, match="trials need two speakers"):
        make_trials(Listed(speakers=1))
    with pytest.raises(InputError, match="trials need two speakers"):
        make_trials(Listed(each=1))


@pytest.fixture
def voxceleb(tmp_path: Path) -> Path:
    """Three speakers in VoxCeleb1's folders, one of them of the test set."""
    rng = np.random.default_rng(0)
    for name in ("id10001/abc/00001", "id10001/xyz/00002", "id10270/v/00001", "id10300/v/00001"):
        path = tmp_path / "wav" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, 8_000), 16_000)
    (tmp_path / "vox1_meta.csv").write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        "id10001\tA.J._Buckley\tm\tIreland\tdev\n"
        "id10270\tEartha_Kitt\tf\tUSA\ttest\n"
        "id10300\tNobody\tm\tUK\tdev\n"
    )
    return tmp_path


def test_voxcelebs_folders_and_table(voxceleb: Path):
    corpus = open_corpus(f"voxceleb:{voxceleb}", "dev")
    assert [corpus.utterance(i).id for i in range(len(corpus))] == [
        *("id10001/abc/00001.wav", "id10001/xyz/00002.wav", "id10300/v/00001.wav")
    ]
    first = corpus.utterance(0)
    assert (first.speaker, first.duration) == ("id10001", 0.5)
    assert first.metadata == {"gender": "male", "nationality": "Ireland", "video": "abc"}
    assert len(corpus.samples(0)) == 8_000
    assert len(open_voxceleb(voxceleb, "test")) == 1
    assert len(open_voxceleb(voxceleb, "all")) == 4
    assert len(open_corpus(f"voxceleb:{voxceleb}?gender=female", "test")) == 1
    assert len(open_voxceleb(voxceleb / "wav", "test")) == 1, "the table may lie beside"


def test_voxceleb2s_table_has_commas(voxceleb: Path):
    (voxceleb / "vox1_meta.csv").unlink()
    (voxceleb / "vox2_meta.csv").write_text(
        "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid10001 ,n000012 ,f ,dev \n"
    )
    corpus = open_voxceleb(voxceleb, "dev")
    assert {corpus.utterance(i).metadata["gender"] for i in range(len(corpus))} == {"female"}


def test_what_is_no_voxceleb(voxceleb: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no split 'train'"):
        open_voxceleb(voxceleb, "train")
    with pytest.raises(InputError, match="is no folder"):
        open_voxceleb(tmp_path / "nowhere", "dev")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"wav/id10270/VIDEO/00001\.wav"):
        open_voxceleb(tmp_path / "empty", "all")
