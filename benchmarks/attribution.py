"""How well voices are told apart, and turns given to their speakers.

    python -m parley.benchmarks.attribution
    python -m parley.benchmarks.attribution --voices "DIGITS/manifest.jsonl?join=4-6&draws=400"
    python -m parley.benchmarks.attribution --voices --recogniser sts-tiny \
        --conversations "assistant?turns=2-4&overlap=20&draws=200"

Three tables, and a fourth with --recogniser. Pairs of recordings: the equal error rate, and what
the threshold that `attribute` uses gets wrong. Enrolments, strung together from recordings of one
speaker or of two: how many are refused. Conversations whose turns are known, words and all: what is
confused when `attribute` names the speakers, in time (DER), words (cpWER) and their number.
Conversations that are recognised as well: cpWER beside ORC-WER, which asks for no names. Nobody in
them was heard before.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .. import zoo
from ..data.audio import SAMPLE_RATE
from ..data.conversations import ConversationCorpus
from ..data.corpus import Corpus, open_corpus
from ..data.text import normalize
from ..data.turns import Turn, assign_channels, turns_of
from ..metrics.conversation import speaker_errors
from ..metrics.diarization import DiarizationErrors, diarization_errors
from ..metrics.verification import equal_error, error_curve
from ..metrics.wer import WordErrors
from ..zoo.attribution import attribute, likeness_of_halves
from ..zoo.console import stdout, table
from ..zoo.conversations import ScoredConversation, evaluate_conversations, total
from ..zoo.speakers import load_speaker_model
from ..zoo.transcriber import Transcriber
from ..zoo.voice_embedding import SPEAKER_MODEL, SpeakerVoice, VoiceEmbedding
from .biasing import by_speaker

_SECONDS = (0.5, 1.0, 2.0, None)
_ENROLMENT_SECONDS = (4.0, 6.0, 12.0)
_ENROLMENTS = 200
_ENROLLED_SECONDS = 10.0


@dataclass(frozen=True)
class ChannelTurn:
    start: float
    end: float
    channel: int


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.attribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", default=SPEAKER_MODEL)
    parser.add_argument("--voices", nargs="*", default=["assistant"])
    talk = "assistant?turns=4-8&seconds=40&draws=300"
    parser.add_argument("--conversations", nargs="*", default=[talk])
    parser.add_argument("--recogniser", help="a model of conversations, for the fourth table")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    voice = SpeakerVoice(load_speaker_model(given.model))
    voices = [open_corpus(spec, given.split) for spec in given.voices]
    if voices:
        print_pairs(voices, voice)
        print_enrolments(voices, voice)
    for spec in given.conversations:
        corpus = open_corpus(spec, given.split)
        if not isinstance(corpus, ConversationCorpus):
            parser.error(f"{spec} has no conversations: give turns, as in {talk}")
        if given.recogniser:
            print_recognised(corpus, zoo.load(given.recogniser), voice)
        else:
            print_conversations(corpus, voice)


def print_pairs(corpora: Sequence[Corpus], voice: VoiceEmbedding) -> None:
    """All pairs of recordings of a corpus, cut to so many seconds."""
    columns = ("seconds", "recordings", "EER", "at", "one taken for two", "two taken for one")
    rows = table("voices", *columns, right=columns)
    for corpus in corpora:
        for seconds in _SECONDS:
            vectors, speakers = _embedded(voice, corpus, seconds)
            scores, same = pairs(vectors, speakers)
            rate, threshold = equal_error(error_curve(scores, same))
            rows.add_row(
                corpus.name,
                "all" if seconds is None else f"{seconds:g}",
                f"{len(vectors):,}",
                f"{100 * rate:.1f} %",
                f"{threshold:.2f}",
                f"{100 * (scores[same] < voice.same).mean():.1f} %",
                f"{100 * (scores[~same] >= voice.same).mean():.1f} %",
            )
        rows.add_section()
    stdout().print(f"Two are one from {voice.same:g} on.", rows)


def print_enrolments(corpora: Sequence[Corpus], voice: VoiceEmbedding) -> None:
    """Enrolments of one voice that are refused, and of two that are not."""
    columns = ("seconds", "EER", "at", "one voice refused", "two voices not refused")
    rows = table("enrolments", *columns, right=columns)
    for corpus in corpora:
        for seconds in _ENROLMENT_SECONDS:
            alike = np.array([likeness_of_halves(x, voice) for x in enrolments(corpus, seconds)])
            single = np.arange(len(alike)) % 2 == 0
            rate, threshold = equal_error(error_curve(alike, single))
            rows.add_row(
                corpus.name,
                f"{seconds:g}",
                f"{100 * rate:.1f} %",
                f"{threshold:.2f}",
                f"{100 * (alike[single] < voice.undivided).mean():.1f} %",
                f"{100 * (alike[~single] >= voice.undivided).mean():.1f} %",
            )
    stdout().print(f"\nRefused below {voice.undivided:g}.", rows)


def print_conversations(corpus: ConversationCorpus, voice: VoiceEmbedding) -> None:
    """Known turns of conversations, named by their voices alone."""
    columns = ("conversations", "number right", "found", "DER", "cpWER")
    rows = table("speakers", "told", *columns, right=columns)
    by_count: dict[int, list[int]] = defaultdict(list)
    for i in range(len(corpus)):
        by_count[len({turn.speaker for turn in turns_of(corpus.utterance(i))})].append(i)
    for count, items in sorted(by_count.items()):
        for told in ("nothing", "how many", "their voices"):
            found, errors, words = [], DiarizationErrors(), WordErrors()
            for i in items:
                turns = turns_of(corpus.utterance(i))
                named = rename(
                    corpus.samples(i),
                    turns,
                    voice,
                    enrolled=_enrolled(corpus, i, voice) if told == "their voices" else None,
                    max_speakers=None if told == "nothing" else count,
                )
                found.append(len({turn.speaker for turn in named}))
                errors += diarization_errors(turns, named)
                words += speaker_errors(turns, named).errors
            rows.add_row(
                f"{count}",
                told,
                f"{len(items):,}",
                f"{100 * np.mean(np.array(found) == count):.0f} %",
                f"{np.mean(found):.2f}",
                f"{100 * errors.rate:.1f} %",
                f"{100 * words.wer:.1f} %",
            )
        rows.add_section()
    stdout().print(f"\n{corpus.name}", rows)


def print_recognised(corpus: ConversationCorpus, model: Transcriber, voice: VoiceEmbedding) -> None:
    """Turns as a model hears them, named by their voices: what a user of --speakers gets."""
    index = {corpus.utterance(i).id: i for i in range(len(corpus))}
    by_count: dict[int, list[ScoredConversation]] = defaultdict(list)
    for conversation in evaluate_conversations(model, corpus).conversations:
        by_count[len({turn.speaker for turn in conversation.reference})].append(conversation)
    columns = ("conversations", "number right", "found", "DER", "ORC-WER", "cpWER", "ratio")
    rows = table("speakers", "told", *columns, right=columns)
    for count, conversations in sorted(by_count.items()):
        orc = total(conversations).words.wer
        for told, most in (("nothing", None), ("how many", count)):
            found, errors, words = [], DiarizationErrors(), WordErrors()
            for conversation in conversations:
                samples = corpus.samples(index[conversation.id])
                heard = conversation.heard
                names = attribute(samples, heard, voice, max_speakers=most)
                named = [
                    Turn(turn.start, turn.end, normalize(turn.text), name)
                    for turn, name in zip(heard, names, strict=True)
                ]
                found.append(len(set(names)))
                errors += diarization_errors(conversation.reference, named)
                words += speaker_errors(conversation.reference, named).errors
            rows.add_row(
                f"{count}",
                told,
                f"{len(conversations):,}",
                f"{100 * np.mean(np.array(found) == count):.0f} %",
                f"{np.mean(found):.2f}",
                f"{100 * errors.rate:.1f} %",
                f"{100 * orc:.1f} %",
                f"{100 * words.wer:.1f} %",
                f"{words.wer / orc:.2f}" if orc else "-",
            )
        rows.add_section()
    stdout().print(f"\n{corpus.name}, recognised by {model.name}", rows)


def rename(
    samples: np.ndarray,
    turns: Sequence[Turn],
    voice: VoiceEmbedding,
    *,
    enrolled: Mapping[str, np.ndarray] | None = None,
    max_speakers: int | None = None,
) -> list[Turn]:
    """The turns, in order of start, with the speakers that `attribute` hears."""
    channels, _ = assign_channels(turns)
    timed = [ChannelTurn(t.start, t.end, c) for t, c in zip(turns, channels, strict=True)]
    names = attribute(samples, timed, voice, enrolled=enrolled, max_speakers=max_speakers)
    return [Turn(t.start, t.end, t.text, n) for t, n in zip(turns, names, strict=True)]


def _enrolled(corpus: ConversationCorpus, i: int, voice: VoiceEmbedding) -> dict[str, np.ndarray]:
    """Other recordings of a conversation's speakers; where one is refused, other ones."""
    rng = np.random.default_rng(i)
    used = set(corpus.utterance(i).id.split(":", 1)[1].split("+"))
    own = by_speaker(corpus.base)
    found = {}
    for speaker in sorted({turn.speaker for turn in turns_of(corpus.utterance(i))}):
        rest = [j for j in own[speaker] if corpus.base.utterance(j).id not in used]
        for _ in range(10):
            samples = _speech(corpus.base, rest, _ENROLLED_SECONDS, rng)
            if likeness_of_halves(samples, voice) >= voice.undivided:
                found[speaker] = samples
                break
    return found


def enrolments(corpus: Corpus, seconds: float) -> Iterable[np.ndarray]:
    """Recordings strung together to so many seconds: of one speaker, of two (half each), ..."""
    own = by_speaker(corpus)
    speakers = sorted(own)
    rng = np.random.default_rng(0)
    for _ in range(_ENROLMENTS):
        first, second = rng.choice(len(speakers), size=2, replace=False)
        yield _speech(corpus, own[speakers[first]], seconds, rng)
        halves = [_speech(corpus, own[speakers[i]], seconds / 2, rng) for i in (first, second)]
        yield np.concatenate(halves)


def _speech(
    corpus: Corpus, items: Sequence[int], seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Recordings in some order, strung together to so many seconds."""
    parts: list[np.ndarray] = []
    wanted = round(seconds * SAMPLE_RATE)
    while sum(map(len, parts)) < wanted:
        parts.append(corpus.samples(int(rng.choice(items))))
    return np.concatenate(parts)[:wanted]


def pairs(vectors: np.ndarray, speakers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of embeddings [N, D], and whether both are of one speaker."""
    above = np.triu_indices(len(vectors), 1)
    names = np.asarray(speakers)
    return (vectors @ vectors.T)[above], (names[:, None] == names[None])[above]


def _embedded(
    voice: VoiceEmbedding, corpus: Corpus, seconds: float | None
) -> tuple[np.ndarray, list[str]]:
    """Embeddings of the recordings, of so many seconds from anywhere within."""
    rng = np.random.default_rng(0)
    vectors, speakers = [], []
    for i in range(len(corpus)):
        samples = corpus.samples(i)
        wanted = len(samples) if seconds is None else round(seconds * SAMPLE_RATE)
        if wanted <= len(samples):
            start = int(rng.integers(len(samples) - wanted + 1))
            vectors.append(voice.embed(samples[start : start + wanted]))
            speakers.append(corpus.utterance(i).speaker)
    return np.stack(vectors), speakers


if __name__ == "__main__":
    main()
