"""Tokenizers of other toolkits as ours: a SentencePiece model whose id 0 is the blank.

Theirs has the blank behind all pieces and, as a rule, the unknown token first; see
`import_weights.py`, where the same two classes change places. A `tokenizer.json` (byte-pair merges
or a unigram vocabulary) is written as the SentencePiece model that spells text alike.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..data.errors import InputError
from ..data.tokenizer import Tokenizer

_MOST = 1 << 17
"""Pieces that a vocabulary may have."""
_SPACE = "\u2581"


def tokenizer_of_sentencepiece(model: bytes, vocab_size: int, name: str) -> Tokenizer:
    """Of a SentencePiece model of `vocab_size - 1` pieces.

    Raises:
      InputError: it is damaged, or does not fit the number of classes.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except DecodeError:
        raise InputError(f"{name} is damaged or no SentencePiece model; get it again.") from None
    return _blank_first(proto, vocab_size, name)


def tokenizer_of_json(content: bytes, vocab_size: int, name: str) -> Tokenizer:
    """Of a `tokenizer.json` with a byte-pair or unigram model.

    Raises:
      InputError: it is damaged, of another kind, or does not fit the number of classes.
    """
    from sentencepiece import sentencepiece_model_pb2

    try:
        values = json.loads(content)
        model, added = values["model"], values.get("added_tokens") or []
        pieces, scores, kind = _vocabulary(model)
        special = {
            int(token["id"]): str(token["content"]) for token in added if token.get("special")
        }
        for token in added:
            pieces.setdefault(int(token["id"]), str(token["content"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{name} is damaged or no tokenizer of byte pairs or unigrams "
            f"({type(error).__name__}); get it again."
        ) from None
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    unknown = _unknown(model, pieces)
    bytes_too = bool(model.get("byte_fallback"))
    for i in range(min(vocab_size - 1, _MOST)):
        if i not in pieces:
            raise InputError(f"{name} has no piece {i}, and the model has {vocab_size} classes.")
        piece = proto.pieces.add(piece=pieces[i], score=scores.get(pieces[i], 0.0))
        if i == unknown:
            piece.type = piece.UNKNOWN
        elif i in special:
            piece.type = piece.CONTROL
        elif bytes_too and _is_byte(pieces[i]):
            piece.type = piece.BYTE
    proto.trainer_spec.model_type = kind
    proto.trainer_spec.byte_fallback = any(p.type == p.BYTE for p in proto.pieces)
    proto.normalizer_spec.name = "identity"
    return _blank_first(proto, vocab_size, name)


def _vocabulary(model: Mapping[str, Any]) -> tuple[dict[int, str], dict[str, float], int]:
    """(piece of every id, score of every piece, SentencePiece's number of the kind)."""
    if model["type"] == "Unigram":
        pieces = {i: str(piece) for i, (piece, _) in enumerate(model["vocab"])}
        return pieces, {str(piece): float(score) for piece, score in model["vocab"]}, 1
    if model["type"] != "BPE":
        raise ValueError(model["type"])
    pieces = {int(i): str(piece) for piece, i in model["vocab"].items()}
    # What is merged first has the highest score; single letters come after all merges.
    scores: dict[str, float] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        scores.setdefault(left + right, -float(rank))
    for piece in pieces.values():
        scores.setdefault(piece, -float(len(model["merges"])))
    return pieces, scores, 2


def _unknown(model: Mapping[str, Any], pieces: Mapping[int, str]) -> int | None:
    if isinstance(model.get("unk_id"), int):
        return model["unk_id"]
    return next((i for i, piece in pieces.items() if piece == model.get("unk_token")), None)


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _blank_first(proto: Any, vocab_size: int, name: str) -> Tokenizer:
    count = len(proto.pieces)
    if count != vocab_size - 1:
        raise InputError(
            f"{name} has {count} pieces and the model {vocab_size} classes, of which one is the "
            "blank: they belong to different models."
        )
    if not any(p.type == p.NORMAL for p in proto.pieces):
        raise InputError(f"{name} has no piece that spells anything; get it again.")
    for piece in proto.pieces:
        # Only one may be unknown; what is not text is not written.
        if piece.type == piece.UNKNOWN:
            piece.type = piece.CONTROL
    last = proto.pieces.add()
    last.CopyFrom(proto.pieces[0])
    blank = proto.pieces[0]
    blank.piece, blank.score, blank.type = _free_name(proto), 0.0, blank.UNKNOWN
    trainer = proto.trainer_spec
    trainer.vocab_size = vocab_size
    trainer.unk_id, trainer.unk_piece = 0, blank.piece
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    return Tokenizer.from_bytes(proto.SerializeToString(), name=name)


def _free_name(proto: Any) -> str:
    """Of the blank: two pieces must not be called alike."""
    taken = {piece.piece for piece in proto.pieces}
    name = "<blank>"
    while name in taken:
        name = f"<{name}>"
    return name
