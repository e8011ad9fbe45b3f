"""What a corpus is, and how one is named: `open_corpus("words")`, `open_corpus("my.jsonl?...")`.

A spec is `SOURCE[?key=value&...]`, several of them joined by ` + `:

    words                                   the embedded corpus, made on first use
    assistant?speakers=50&utterances=20     a smaller draw of it
    librispeech:/data/librispeech           official archives or their folders; the split chooses
    libricss:/data/libricss?condition=OV20  real conversations, see `libricss`; split dev or test
    librispeechmix:/data/LibriSpeechMix     mixtures by list, see `librispeechmix`
    voxceleb:/data/voxceleb1                its folders, with the table of speakers beside them
    recordings.jsonl?take=10-49&speaker=!theo   a manifest, rows chosen by their metadata
    digits.jsonl?join=1-7&draws=4000        1 to 7 recordings of one speaker joined, drawn anew
    assistant?noise=10                      with noise at 10 dB, the same for every reading
    assistant?turns=1-4&draws=4000          conversations of 1 to 4 turns, drawn anew
    assistant?turns=2-4&overlap=20&draws=200&seed=7    a test set with 20 % of overlapped speech
    assistant?cohorts=assigned.json&cohort_group=bottom    the speakers of the worst cohorts
    recordings/                             a folder of audio, without text

Conversations (docs/conversations.md) take, beside `turns`: `seconds=20`, which none is longer than;
`rooms=0.5`, the share that is recorded in a simulated room with noise (by default half; with
`overlap` none, so that conditions differ in overlap alone); `overlap=20`, percent of the talking
time; `ramp=20000`, so many conversations until the longest ones come. `join` goes first:
`digits.jsonl?join=3-6&turns=2-4` has turns of 3 to 6 digits.

`cohorts=FILE` labels utterances by an assignment of speakers that `parley fairness assign` wrote
(docs/fairness.md, `cohorts`): their metadata then have `cohort`, a name; `cohort_rank`, 1 for the
worst; and `cohort_group`: bottom, middle or top. Speakers of no cohort have none of these, so
`cohort=*` selects those that have one.

`transcripts=FILE` takes what `parley fairness pseudo-label` heard for the texts, and leaves out
what it was not sure of (`transcripts`).
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import numpy as np

from .errors import InputError, Rejected

if TYPE_CHECKING:
    from .conversations import ConversationConfig

EMBEDDED = ("words", "assistant")
_MANIFESTS = {".jsonl", ".json", ".csv", ".tsv"}
_RESERVED = {
    *("cohorts", "join", "draws", "limit", "noise", "seed", "speakers", "transcripts", "turns"),
    "utterances",
}
_OF_TURNS = {"overlap", "seconds", "rooms", "ramp"}
_OF_LIBRICSS = {"part", "channel"}


@dataclass(frozen=True)
class Utterance:
    """One recording and what is known about it, without its samples."""

    id: str
    text: str
    duration: float  # seconds
    speaker: str = ""  # '' where unknown
    metadata: dict[str, Any] = field(default_factory=dict)


class Corpus(Protocol):
    """Indexed utterances. Reading is safe from several threads at once.

    A corpus may also have `endless = True`: then `utterance(i)` and `samples(i)` are defined for
    every `i >= 0`, and epoch `e` consists of the indices `e * len(corpus)` to
    `(e + 1) * len(corpus) - 1`; `late_epoch`, the first epoch whose items have all the lengths to
    come, where the first ones do not; and `quarantine`, a list of the `Rejected` rows it left out.
    """

    @property
    def name(self) -> str:
        """For people: what this corpus is."""
        ...

    def __len__(self) -> int: ...

    def utterance(self, i: int) -> Utterance:
        """The i-th utterance; reads no audio."""
        ...

    def samples(self, i: int) -> np.ndarray:
        """Its samples: mono 16 kHz int16 `[N]`. Raises `InputError` for a damaged recording."""
        ...


def is_endless(corpus: Corpus) -> bool:
    """Whether every epoch of the corpus has new indices."""
    return getattr(corpus, "endless", False)


def late_epoch(corpus: Corpus) -> int:
    """The epoch from which on a corpus has all its lengths."""
    return getattr(corpus, "late_epoch", 0)


def quarantined(corpus: Corpus) -> list[Rejected]:
    """The rows that the corpus left out when it was opened, and why."""
    return getattr(corpus, "quarantine", [])


def data_root(root: Path | None = None) -> Path:
    """Where corpora are made and indexed: `root`, else $PARLEY_DATA, else ~/.cache/parley/data."""
    if root is not None:
        return Path(root)
    given = os.environ.get("PARLEY_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "parley" / "data"


def open_corpus(
    spec: str,
    split: str = "train",
    *,
    root: Path | None = None,
    require_text: bool = True,
    progress: bool = True,
) -> Corpus:
    """Opens the corpus that `spec` names (grammar: this module's docstring).

    Args:
      spec: the source and the query that selects from it.
      split: train, dev or test of an embedded corpus; an archive's name (`train-clean-100`) of
        LibriSpeech; dev, test or all of VoxCeleb; a manifest or a folder has none, its query
        alone selects.
      root: the data root, see `data_root`.
      require_text: whether manifest rows without text are rejected.
      progress: whether making an embedded corpus shows a bar.

    Selection by metadata: `key=a,b` keeps rows whose value is a or b, `key=!a` the others,
    `key=10-49` numbers from 10 to 49, `key=a*` what begins with a. `limit=N` keeps the first N;
    `join=LOW-HIGH` joins recordings of one speaker and `turns=LOW-HIGH` mixes conversations,
    `draws` of them an epoch; `noise=SNR_DB` adds noise; `seed` governs them, and the draw of an
    embedded corpus.

    Raises:
      InputError: for a spec that cannot be understood, a source that is not there, or a selection
        that leaves nothing.
    """
    from .views import ConcatCorpus

    parts = [part.strip() for part in spec.split(" + ")]
    if not all(parts):
        raise InputError(f"corpus {spec!r}: nothing between the plus signs; name a corpus.")
    corpora = [_open_one(part, split, root, require_text, progress) for part in parts]
    return corpora[0] if len(corpora) == 1 else ConcatCorpus(corpora)


def _open_one(
    spec: str, split: str, root: Path | None, require_text: bool, progress: bool
) -> Corpus:
    from .cohorts import CohortCorpus, read_assignment
    from .joined import JoinedCorpus
    from .transcripts import TranscribedCorpus, read_transcripts
    from .views import NoisyCorpus, select

    source, query = parse_spec(spec)
    # The whole query is understood before anything is made or read.
    seed = _integer(spec, query, "seed") or 0
    limit = _integer(spec, query, "limit", low=1)
    draws = _integer(spec, query, "draws", low=1)
    join = _range(spec, query, "join", "1-7")
    talk = _conversations(spec, query, draws=limit or draws, seed=seed)
    snr_db = _number(spec, "noise", query["noise"]) if "noise" in query else None
    if draws and not (join or talk):
        raise InputError(
            f"corpus {spec!r}: draws needs join or turns, for example join=1-7&draws=4000."
        )
    assignment = Path(query["cohorts"]).expanduser() if "cohorts" in query else None
    cohorts = read_assignment(assignment) if assignment else None
    transcripts = Path(query["transcripts"]).expanduser() if "transcripts" in query else None
    heard = read_transcripts(transcripts) if transcripts else None
    require_text &= heard is None
    corpus = _open_source(spec, source, query, split, root, require_text, progress)
    if cohorts:
        corpus = CohortCorpus(corpus, cohorts, str(assignment))
    if heard:
        corpus = TranscribedCorpus(corpus, heard, str(transcripts))
    taken = _RESERVED | (_OF_TURNS if talk else set())
    if source.startswith("libricss:"):
        taken |= _OF_LIBRICSS
    corpus = select(
        corpus,
        {key: value for key, value in query.items() if key not in taken},
        spec,
        limit=None if join or talk else limit,
    )
    if join:
        corpus = JoinedCorpus(corpus, *join, draws=None if talk else limit or draws, seed=seed)
    if talk:
        from .activity import bounds_file
        from .conversations import ConversationCorpus

        corpus = ConversationCorpus(corpus, talk, bounds=bounds_file(data_root(root), corpus))
    if snr_db is not None:
        corpus = NoisyCorpus(corpus, snr_db, seed=seed)
    return corpus


def _open_source(
    spec: str,
    source: str,
    query: dict[str, str],
    split: str,
    root: Path | None,
    require_text: bool,
    progress: bool,
) -> Corpus:
    if source in EMBEDDED:
        return _open_embedded(spec, source, split, query, root, progress)
    for key in ("speakers", "utterances"):
        if key in query:
            raise InputError(f"corpus {spec!r}: {key} is for {' and '.join(EMBEDDED)} only.")
    if source.startswith("tfds:"):
        from .tfds_split import open_tfds

        return open_tfds(source.removeprefix("tfds:"), split, root=root)
    if source.startswith("libricss:"):
        from .libricss import open_libricss

        folder = Path(source.removeprefix("libricss:")).expanduser()
        channel = None if query.get("channel") == "mean" else _integer(spec, query, "channel") or 0
        part = query.get("part", "segments")
        return open_libricss(folder, split, part=part, channel=channel)
    if source.startswith("librispeechmix:"):
        from .librispeechmix import open_librispeechmix

        folder = Path(source.removeprefix("librispeechmix:")).expanduser()
        return open_librispeechmix(folder, split, root=data_root(root))
    if source.startswith("librispeech:"):
        from .librispeech import open_librispeech

        folder = Path(source.removeprefix("librispeech:")).expanduser()
        return open_librispeech(folder, split, root=data_root(root), progress=progress)
    if source.startswith("voxceleb:"):
        from .voxceleb import open_voxceleb

        return open_voxceleb(Path(source.removeprefix("voxceleb:")).expanduser(), split)
    return _open_path(spec, source, require_text)


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """`"a.jsonl?take=1-3&limit=5"` -> `("a.jsonl", {"take": "1-3", "limit": "5"})`."""
    source, _, query = spec.partition("?")
    if not source:
        raise InputError(f"corpus {spec!r} names no source; begin with words, a manifest, ...")
    values: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not key or not equals or not value:
            raise InputError(f"corpus {spec!r}: {part!r} is not key=value.")
        if key in values:
            raise InputError(f"corpus {spec!r}: {key} is given twice; separate values by commas.")
        values[unquote(key)] = unquote(value)
    return source, values


def _open_embedded(
    spec: str, source: str, split: str, query: dict[str, str], root: Path | None, progress: bool
) -> Corpus:
    from .embedded import EmbeddedCorpus

    if split not in ("train", "dev", "test"):
        raise InputError(f"corpus {source} has no split {split!r}; its splits: train, dev, test.")
    given = {key: _integer(spec, query, key, low=1) for key in ("speakers", "utterances")}
    given["seed"] = _integer(spec, query, "seed")
    draw = {key: value for key, value in given.items() if value is not None}
    return EmbeddedCorpus.open(source, split, root=data_root(root), progress=progress, **draw)


def _open_path(spec: str, source: str, require_text: bool) -> Corpus:
    from .manifest import open_folder, open_manifest

    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path)
    if path.suffix.lower() in _MANIFESTS:
        return open_manifest(path, require_text=require_text)
    if path.exists():
        raise InputError(
            f"{path} is neither a manifest (.jsonl, .json, .csv, .tsv) nor a folder of audio."
        )
    raise InputError(
        f"no corpus {spec!r}: give {', '.join(EMBEDDED)}, librispeech:DIR, voxceleb:DIR, a "
        "manifest (.jsonl, .json, .csv, .tsv) or a folder of audio."
    )


def _number(spec: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"corpus {spec!r}: {key} must be a number, not {value!r}.")
    return number


def _integer(spec: str, query: dict[str, str], key: str, low: int = 0) -> int | None:
    value = query.get(key)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < low:
        raise InputError(f"corpus {spec!r}: {key} must be a whole number from {low} on.")
    return int(value)


def _range(spec: str, query: dict[str, str], key: str, example: str) -> tuple[int, int] | None:
    if key not in query:
        return None
    low, _, high = query[key].partition("-")
    high = high or low
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise InputError(f"corpus {spec!r}: {key} must be a count or a range such as {example}.")
    return int(low), int(high)


def _conversations(
    spec: str, query: dict[str, str], *, draws: int | None, seed: int
) -> "ConversationConfig | None":
    """What the query says of conversations; None without `turns`."""
    turns = _range(spec, query, "turns", "1-4")
    if turns is None:
        return None
    from .conversations import ConversationConfig

    given = {
        key: _number(spec, key, query[key])
        for key in ("overlap", "seconds", "rooms")
        if key in query
    }
    if "overlap" in given:
        given.setdefault("rooms", 0.0)
    try:
        return ConversationConfig(
            *turns, ramp=_integer(spec, query, "ramp") or 0, draws=draws, seed=seed, **given
        )
    except ValueError as error:
        raise InputError(f"corpus {spec!r}: {error}.") from None
