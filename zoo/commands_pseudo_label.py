"""`parley fairness pseudo-label`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.corpus import open_corpus
from ..data.errors import InputError, Rejected
from ..data.files import replace_file
from ..data.text import normalize
from .arguments import parse
from .console import amount, audio_progress, remark


@dataclass(frozen=True)
class PseudoLabelArguments:
    """Transcribes a corpus by a teacher and keeps what it is sure of, as texts to train on: the
    corpus with ?transcripts=FILE has these texts and only these utterances. Where the corpus has
    texts of its own, they are not looked at but to say how many words the teacher got wrong.

    * parley fairness pseudo-label rnnt-tiny --data "assistant?accent=scotland" --out heard.jsonl
    * parley fairness pseudo-label runs/large --data recordings/ --confidence 0.95 --out heard.jsonl
    * parley fairness mitigate finetune rnnt-tiny --data.train "assistant?transcripts=heard.jsonl"
    """

    teacher: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEACHER")]
    """A name that `parley list` shows, or a model's folder."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")]
    """The corpus to transcribe: a spec as of parley evaluate."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """JSON lines: id, text, confidence, duration, speaker."""
    split: str = "train"
    """Of an embedded corpus or LibriSpeech."""
    confidence: float = 0.9
    """Least confidence of a transcript: the mean of its words'."""
    json: bool = False
    """Print JSON instead of a sentence."""


def pseudo_label_command(argv: list[str]) -> int:
    given = parse(PseudoLabelArguments, argv, "parley fairness pseudo-label")
    if not 0.0 <= given.confidence <= 1.0:
        raise InputError(f"--confidence lies between 0 and 1, not {given.confidence:g}.")
    from ..metrics.wer import WordErrors, word_errors
    from . import load
    from .evaluation import transcribe_corpus

    model = load(given.teacher)
    corpus = open_corpus(given.data, given.split, require_text=False)
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    rejected: list[Rejected] = []
    lines: dict[int, str] = {}
    heard_s = kept_s = 0.0
    errors = WordErrors()
    with audio_progress("transcribing", total) as advance:
        for index, utterance, result in transcribe_corpus(model, corpus, rejected, advance):
            heard_s += result.duration
            sure = [word.confidence for word in result.words]
            confidence = sum(sure) / len(sure) if sure else 0.0
            text = normalize(result.text)
            if not text or confidence < given.confidence:
                continue
            kept_s += result.duration
            if utterance.text:
                errors += word_errors(normalize(utterance.text), text)
            row = {
                "id": utterance.id,
                "text": text,
                "confidence": round(confidence, 4),
                "duration": round(result.duration, 3),
                "speaker": utterance.speaker,
            }
            lines[index] = json.dumps(row, ensure_ascii=False)
    if not lines:
        raise InputError(
            f"{given.teacher} is sure of nothing in {corpus.name}: lower --confidence, or take a "
            "better teacher."
        )
    replace_file(given.out, "".join(f"{lines[index]}\n" for index in sorted(lines)))
    record = {
        "teacher": given.teacher,
        "data": given.data,
        "confidence": given.confidence,
        "utterances": len(lines),
        "of": len(corpus),
        "hours": round(kept_s / 3600, 4),
        "of_hours": round(heard_s / 3600, 4),
        "wer": round(100 * errors.wer, 2) if errors.words else None,
    }
    if given.json:
        print(json.dumps(record, indent=1))
    else:
        wrong = f", {100 * errors.wer:.1f} % of their words wrong" if errors.words else ""
        print(
            f"{given.out}: {len(lines):,} of {len(corpus):,} utterances, {amount(kept_s)} of "
            f"{amount(heard_s)}, at a confidence of {given.confidence:g} or more{wrong}"
        )
    for row in rejected:
        remark(f"left out {row}")
    return 2 if rejected else 0
