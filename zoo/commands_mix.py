"""`parley mix`: conversations as files, for tests that stay the same."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import amount, audio_progress, remark

if TYPE_CHECKING:
    from ..data.turns import Turn

_ABOUT = "mix.json"


@dataclass(frozen=True)
class MixArguments:
    """Conversations of a corpus as FLAC files, with a manifest that `--data` takes and references.

    The folder gets manifest.jsonl (audio_filepath, duration, text, turns, overlap, ...),
    reference.seglst.json, reference.stm and reference.rttm. A command that was stopped goes on
    where it was when it is given again; the manifest comes last.

    * parley mix "assistant?turns=2-4&overlap=20&draws=200" --split test --out sets/overlap-20/
    * parley mix "librispeech:DIR?turns=4-8&seconds=60" --split test-clean --count 50 --out long/
    * parley mix libricss:DIR --split test --out sets/libricss/
    """

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """A corpus whose recordings have turns, such as "assistant?turns=1-4"."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Where the files go; made if it is missing."""
    split: str = "test"
    """Of the corpus."""
    count: int | None = None
    """Conversations; by default as many as the corpus has in an epoch."""
    json: bool = False
    """Print a summary as JSON."""


@dataclass(frozen=True)
class MixedSet:
    """What was written."""

    folder: str
    recordings: int
    seconds: float
    turns: int
    overlap: float  # mean share of the talking time


def mix_command(argv: list[str]) -> int:
    from ..data.corpus import is_endless, open_corpus

    given = parse(MixArguments, argv, "parley mix")
    if given.count is not None and given.count < 1:
        raise InputError(f"--count {given.count} is no use: give 1 or more.")
    corpus = open_corpus(given.data, given.split)
    count = given.count or len(corpus)
    if count > len(corpus) and not is_endless(corpus):
        raise InputError(f"{given.data} has {len(corpus):,} recordings: --count can be no larger.")
    about = {"data": given.data, "split": given.split, "count": count}
    done = write_set(corpus, count, given.out, about)
    if given.json:
        print(json.dumps(asdict(done)))
    else:
        remark(
            f"{done.recordings:,} recordings with {done.turns:,} turns, {amount(done.seconds)}, "
            f"{100 * done.overlap:.1f} % overlapped, are in {given.out / 'manifest.jsonl'}"
        )
    return 0


def write_set(corpus: Any, count: int, folder: Path, about: dict[str, Any]) -> MixedSet:
    """The first `count` recordings of a corpus with turns, as files with references.

    Args:
      corpus: a `Corpus`.
      count: of recordings.
      folder: where to; what an interrupted call left there is kept.
      about: what makes the set; kept in `mix.json`, and must agree with what is there.

    Raises:
      InputError: the folder holds something else, or a recording has no turns.
    """
    from ..data.files import replace_file
    from ..data.segments import write_rttm, write_seglst, write_stm
    from ..data.turns import overlap_share, to_json

    _turns(corpus.utterance(0))  # before anything is written
    _claim(folder, about)
    seen = [corpus.utterance(i).duration for i in range(min(count, 20))]
    rows: list[dict[str, Any]] = []
    sessions: dict[str, tuple[Turn, ...]] = {}
    with audio_progress("mixing", count * sum(seen) / len(seen)) as advance:
        for i in range(count):
            utterance = corpus.utterance(i)
            turns = _turns(utterance)
            path = folder / f"{i:05d}.flac"
            if not path.exists():
                replace_file(path, _flac(corpus.samples(i)))
            known = {k: v for k, v in utterance.metadata.items() if k != "turns"}
            row = {
                "audio_filepath": path.name,
                "id": path.stem,
                "duration": round(utterance.duration, 4),
                "text": utterance.text,
                "speaker": utterance.speaker,
                **known,
                "overlap": round(overlap_share(turns), 4),
                "source": utterance.id,
                "turns": to_json(turns),
            }
            rows.append(row)
            sessions[path.stem] = turns
            advance(utterance.duration)
    replace_file(folder / "reference.seglst.json", write_seglst(sessions))
    replace_file(folder / "reference.stm", write_stm(sessions))
    replace_file(folder / "reference.rttm", write_rttm(sessions))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_file(folder / "manifest.jsonl", "".join(lines))
    return MixedSet(
        folder=str(folder),
        recordings=count,
        seconds=round(sum(row["duration"] for row in rows), 2),
        turns=sum(len(turns) for turns in sessions.values()),
        overlap=round(sum(row["overlap"] for row in rows) / count, 4),
    )


def _turns(utterance: Any) -> "tuple[Turn, ...]":
    from ..data.turns import turns_of

    turns = turns_of(utterance)
    if not turns:
        raise InputError(
            f"{utterance.id} has no turns: give a corpus of conversations, for example "
            '"assistant?turns=2-4".'
        )
    return turns


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Makes the folder this set's, unless it is something else's."""
    from ..data.files import replace_file

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder.")
    path = folder / _ABOUT
    if path.exists():
        try:
            before = json.loads(path.read_text("utf-8"))
        except ValueError:
            before = None
        if before != about:
            raise InputError(
                f"{folder} holds another set ({path} says which): remove it, or give another --out."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} holds other files: give an empty folder, or a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(about) + "\n")


def _flac(samples: Any) -> bytes:
    import soundfile

    from ..data.audio import SAMPLE_RATE

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
