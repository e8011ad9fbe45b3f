"""Tokenizer: text comes back, ids leave 0 to the blank, training is deterministic."""

import pickle

import pytest

from parley.data.errors import InputError
from parley.data.tokenizer import BLANK, MARKERS, Tokenizer

TEXTS = ["turn on the light", "turn off the radio", "what's the time", "Set two timers!"] * 5


@pytest.fixture(scope="module", params=["unigram", "char"])
def tokenizer(request):
    return Tokenizer.train(TEXTS, 40, request.param)


def test_text_comes_back(tokenizer):
    for text in ["turn on the light", "what's the time", "set two timers", "jazz quiz"]:
        ids = tokenizer.encode(text)
        assert all(BLANK < i < tokenizer.vocab_size for i in ids)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([0, *ids, 0]) == text


def test_encode_normalises(tokenizer):
    assert tokenizer.encode("Turn ON, the light!") == tokenizer.encode("turn on the light")


def test_words_begin_where_they_are_said_to(tokenizer):
    ids = tokenizer.encode("turn on the light")
    starts = [i for i in ids if tokenizer.starts_word(i)]
    assert len(starts) == 4
    assert tokenizer.starts_word(ids[0])
    assert len(tokenizer.pieces) == tokenizer.vocab_size
    assert len(set(tokenizer.pieces)) == tokenizer.vocab_size


def test_unknown_characters_are_named(tokenizer):
    with pytest.raises(InputError, match=r"'7', 'ñ' in 'ñandú 7'|'7', 'ñ', 'ú'"):
        tokenizer.encode("ñandú 7")


@pytest.mark.parametrize("token", [-1, 10_000])
def test_tokens_outside_the_vocabulary(tokenizer, token):
    with pytest.raises(InputError, match=f"token {token} lies outside the vocabulary of"):
        tokenizer.decode([1, token])


def test_training_is_deterministic_and_streams(tokenizer):
    kind = "char" if tokenizer.starts_word(1) and len(tokenizer.pieces[1]) == 1 else "unigram"
    again = Tokenizer.train((text for text in TEXTS), 40, kind)
    assert again.to_bytes() == tokenizer.to_bytes()


def test_training_is_quiet(capfd):
    Tokenizer.train(TEXTS, 40)
    assert capfd.readouterr() == ("", "")


def test_vocabulary_is_at_most_what_was_asked_for():
    assert Tokenizer.train(TEXTS, 40).vocab_size <= 40
    # Few distinct words give fewer pieces than asked for, not an error.
    assert 30 < Tokenizer.train(TEXTS, 5000).vocab_size < 200


def test_other_languages_get_their_own_characters():
    tokenizer = Tokenizer.train(["el ñandú corre", "él canta"] * 3, 40)
    assert tokenizer.decode(tokenizer.encode("ñandú canta")) == "ñandú canta"
    with pytest.raises(InputError, match="'q'"):
        tokenizer.encode("quiz")


@pytest.mark.parametrize(
    ("texts", "size", "kind", "message"),
    [
        ([], 40, "unigram", "no text to learn from"),
        (["...", ""], 40, "unigram", "no text to learn from"),
        (TEXTS, 5, "unigram", "a tokenizer of 5 pieces cannot be trained"),
        (TEXTS, 40, "bpe", "kind 'bpe' is unknown"),
    ],
)
def test_what_cannot_be_trained(texts, size, kind, message):
    with pytest.raises(InputError, match=message) as caught:
        Tokenizer.train(texts, size, kind)
    assert "\n" not in str(caught.value)


def test_files_and_copies(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    for copy in (
        Tokenizer.load(tmp_path / "tokenizer.model"),
        Tokenizer.from_bytes(tokenizer.to_bytes()),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert copy.pieces == tokenizer.pieces
        assert copy.encode("turn on") == tokenizer.encode("turn on")


def test_no_damaged_model_is_accepted(tokenizer, tmp_path):
    whole = tokenizer.to_bytes()
    for model in [b"", b"nonsense", *(whole[:cut] for cut in range(1, len(whole) - 20, 37))]:
        with pytest.raises(InputError, match="damaged"):
            Tokenizer.from_bytes(model)
    with pytest.raises(InputError, match="cannot be read"):
        Tokenizer.load(tmp_path / "none.model")


def test_a_foreign_model_is_refused():
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=out,
        vocab_size=30,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=3,
        minloglevel=2,
    )
    with pytest.raises(InputError, match="does not keep id 0"):
        Tokenizer.from_bytes(out.getvalue())


def test_markers_stand_behind_the_pieces(tokenizer):
    marked = tokenizer.with_markers(MARKERS["turns"])
    size = tokenizer.vocab_size
    assert marked.markers == {"<sot>": size, "<eot>": size + 1}
    assert marked.pieces[:size] == tokenizer.pieces
    assert tokenizer.markers == {}
    for text in ["turn on the light", "sot eot", "<sot> two"]:
        assert marked.encode(text) == tokenizer.encode(text)
    one, two = marked.encode("two"), marked.encode("timers")
    assert marked.decode([size, *one, size + 1, size, *two, size + 1]) == "two timers"
    assert marked.starts_word(size)
    again = Tokenizer.from_bytes(marked.with_markers(MARKERS["turns"]).to_bytes())
    assert again.pieces == marked.pieces
    assert again.markers == marked.markers
