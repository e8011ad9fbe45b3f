"""Lists of phrases."""

from pathlib import Path

import pytest

from parley.data.errors import InputError
from parley.data.phrases import check_phrase, read_phrases

PIECES = ["<blank>", *"▁abcdef'"]


def test_a_list_with_weights_and_comments(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text("# names\nAda\t2\n\n  # more\n  Fabe Cab \n")
    assert read_phrases(path, PIECES) == (["ada", "fabe cab"], [2.0, 1.0])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("ada\nzoë\n", "line 2: no token spells 'o', 'z', 'ë'"),
        ("ada\tmuch\n", "line 1: 'much' is no positive weight"),
        ("ada\t-1\n", "no positive weight"),
        ("...\n", "line 1"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(tmp_path: Path, content: str, sentence: str):
    path = tmp_path / "names.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence):
        read_phrases(path, PIECES)


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read"):
        read_phrases(tmp_path / "none.txt", PIECES)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no UTF-8"):
        read_phrases(tmp_path / "bytes.txt", PIECES)
    assert check_phrase(" Bad  CAFE", PIECES, "here") == "bad cafe"
