"""Wordpieces or characters, by SentencePiece; id 0 is the transducer's blank.

SentencePiece needs an unknown token and gives it id 0. Text with unknown characters is refused
here, so that id never occurs in a label and the blank takes its place: the piece of id k is
SentencePiece's own, and `vocab_size` counts the blank.
"""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from .errors import InputError
from .text import as_spelled, is_cased, normalize

BLANK = 0
_SPACE = "▁"  # U+2581, SentencePiece's mark for the beginning of a word
_ENGLISH = frozenset("abcdefghijklmnopqrstuvwxyz'")
# The E step adds up per thread, so the result depends on their number: fixed, not the machine's.
_THREADS = 4

START_OF_TURN, END_OF_TURN, NEXT_TURN = "<sot>", "<eot>", "<st>"
MARKERS = {"none": (), "separator": (NEXT_TURN,), "turns": (START_OF_TURN, END_OF_TURN)}
"""Tokens that are no text, behind the pieces: what stands around the turns of a conversation."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How a tokenizer is trained."""

    kind: Literal["unigram", "char"] = "unigram"
    vocab_size: int = 256  # with the blank; an upper bound: few distinct words give fewer pieces
    markers: Literal["none", "separator", "turns"] = "none"  # tokens around turns, beyond these


class Tokenizer:
    """Text to token ids and back. Picklable; safe to use from several threads."""

    def __init__(self, model: bytes):
        """Wraps a serialized SentencePiece model; `from_bytes` also checks it."""
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int = 256,
        kind: Literal["unigram", "char"] = "unigram",
    ) -> "Tokenizer":
        """Trains on `texts` (streamed, normalised here); the same texts give the same bytes.

        English text gets all of a-z and the apostrophe, seen or not, so that a model can later be
        trained further on other words. `kind="char"` takes every character and ignores
        `vocab_size`.

        Raises:
          InputError: when there is no text, or `vocab_size` is too small for its characters.
        """
        import sentencepiece

        if kind not in ("unigram", "char"):
            raise InputError(f"tokenizer kind {kind!r} is unknown; use unigram or char.")
        counts: dict[str, int] = {}
        sentences = _normalized(texts, counts)
        out = io.BytesIO()
        # SentencePiece must know the required characters before it reads a sentence, so the first
        # ones decide whether the text is English.
        first = _take(sentences, 1000)
        if not first:
            raise InputError("the tokenizer has no text to learn from; check the corpus.")
        english = _ENGLISH.issuperset("".join(first).replace(" ", ""))
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=_chain(first, sentences),
                model_writer=out,
                model_type=kind,
                vocab_size=vocab_size if kind == "unigram" else 100_000,
                hard_vocab_limit=False,
                character_coverage=1.0,
                required_chars="".join(sorted(_ENGLISH)) if english else "",
                normalization_rule_name="identity",
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                max_sentence_length=1 << 20,
                num_threads=_THREADS,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise InputError(
                f"a tokenizer of {vocab_size} pieces cannot be trained on this text with "
                f"{len(counts)} different characters; ask for more pieces, or kind char "
                f"({str(error).splitlines()[-1].strip()})."
            ) from None
        return cls(out.getvalue())

    @classmethod
    def from_bytes(cls, model: bytes, *, name: str = "tokenizer") -> "Tokenizer":
        """Wraps and checks a serialized model.

        Raises:
          InputError: when it is damaged, or its unknown token is not 0 (then it was not made
            here, and the ids would not fit a transducer).
        """
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2

        damaged = InputError(f"{name} is damaged or no SentencePiece model; copy it again.")
        proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
        try:
            proto.ParseFromString(model)
            # A file cut between two pieces still parses; the specifications come after them.
            if not proto.HasField("normalizer_spec") or len(proto.pieces) < 2:
                raise damaged
            tokenizer = cls(model)
        except (DecodeError, RuntimeError, OSError):
            raise damaged from None
        if tokenizer._processor.unk_id() != BLANK:
            raise InputError(f"{name} does not keep id 0 for the blank; train it with parley.")
        return tokenizer

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads a model file. Raises `InputError` when it is missing or damaged."""
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"tokenizer {path} cannot be read ({error.strerror}).") from None
        return cls.from_bytes(model, name=str(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file, `tokenizer.model` by custom."""
        Path(path).write_bytes(self._model)

    def to_bytes(self) -> bytes:
        """The serialized model, for `from_bytes`."""
        return self._model

    def with_markers(self, names: Iterable[str]) -> "Tokenizer":
        """This tokenizer with further tokens at the end that no text has; those it has are kept."""
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto.FromString(self._model)  # type: ignore[attr-defined]
        for name in names:
            if name not in self.markers:
                piece = proto.pieces.add(piece=name, score=0.0)
                piece.type = piece.CONTROL
        return Tokenizer(proto.SerializeToString())

    @cached_property
    def markers(self) -> dict[str, int]:
        """Ids of the tokens that mark turns, by name."""
        known = {name for names in MARKERS.values() for name in names}
        return {
            piece: i
            for i, piece in enumerate(self.pieces)
            if i != BLANK and piece in known and self._processor.is_control(i)
        }

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[bytes]]:
        return Tokenizer, (self._model,)

    @property
    def vocab_size(self) -> int:
        """Number of ids, the blank included."""
        return self._processor.get_piece_size()

    @cached_property
    def pieces(self) -> list[str]:
        """The piece of every id; `<blank>` for 0, `▁` marks the beginning of a word."""
        ids = range(1, self.vocab_size)
        return ["<blank>", *(self._processor.id_to_piece(i) for i in ids)]

    @cached_property
    def cased(self) -> bool:
        """Whether it tells capitals from small letters: then text keeps them, and punctuation."""
        return is_cased(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, normalised unless the vocabulary is `cased`; no blank among them.

        Raises:
          InputError: for a character that no piece holds, naming it.
        """
        text = as_spelled(text, self.cased)
        ids = self._processor.encode(text)
        if BLANK in ids:
            known = set("".join(self.pieces[1:]))
            unknown = sorted({c for c in text if c != " " and c not in known})
            raise InputError(
                f"the tokenizer does not know {', '.join(map(repr, unknown))} in {text[:60]!r}; "
                "change the text or train a new tokenizer."
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; blanks are left out, and markers of turns end a word.

        Raises:
          InputError: for an id outside the vocabulary.
        """
        spelled = bytearray()
        for i in ids:
            if not 0 <= i < len(self.pieces):
                raise InputError(f"token {i} lies outside the vocabulary of {self.vocab_size}.")
            if i == BLANK:
                continue
            if self._processor.is_byte(i):  # <0x41>; several may make one letter
                spelled.append(int(self.pieces[i][1:-1], 16))
            else:
                spelled += (_SPACE if self._processor.is_control(i) else self.pieces[i]).encode()
        text = spelled.decode(errors="replace")
        return " ".join(text.replace(_SPACE, " ").split())

    def starts_word(self, i: int) -> bool:
        """Whether a new word begins with this token; a marker ends the one before."""
        return self.pieces[i].startswith(_SPACE) or self._processor.is_control(i)


def _normalized(texts: Iterable[str], counts: dict[str, int]) -> Iterator[str]:
    for text in texts:
        sentence = normalize(text)
        if sentence:
            counts.update(dict.fromkeys(sentence, 1))
            yield sentence


def _take(sentences: Iterator[str], count: int) -> list[str]:
    taken = []
    for sentence in sentences:
        taken.append(sentence)
        if len(taken) == count:
            break
    return taken


def _chain(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest
