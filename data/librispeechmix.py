"""LibriSpeechMix (Kanda et al., Interspeech 2020, arXiv 2003.12687): utterances of LibriSpeech that
partly overlap, one to three talkers.

Read is the layout of github.com/NaoyukiKanda/LibriSpeechMix after its `run.sh`:

    list/test-clean-2mix.jsonl      id, mixed_wav, texts, wavs, delays, speakers, durations (s)
    data/test-clean-2mix/....wav    the mixtures
    data/test-clean/84/...wav       LibriSpeech itself, of which they are made

Mixtures that are not there are made of their parts, as its `mix_wavs.py` does. Where the parts are
there, the turns' times are told by their energy; else they are where the files begin and end.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .activity import SpeechBounds, bounds_file
from .audio import SAMPLE_RATE, read_audio, to_int16
from .corpus import Utterance
from .errors import InputError, Rejected
from .manifest import Recording, RecordingsCorpus
from .turns import Turn, in_order, overlap_share

SPLITS = tuple(f"{part}-clean-{n}mix" for part in ("dev", "test") for n in (1, 2, 3))
_LISTS = ("texts", "delays", "durations", "speakers")


@dataclass(frozen=True)
class _Mixture:
    id: str
    mixed: Path | None  # None where it must be made
    texts: tuple[str, ...]
    delays: tuple[float, ...]
    durations: tuple[float, ...]
    speakers: tuple[str, ...]
    parts: tuple[int, ...]  # among the sources; () where they are not there

    @property
    def duration(self) -> float:
        return max(
            delay + length for delay, length in zip(self.delays, self.durations, strict=True)
        )


class MixtureCorpus:
    """The mixtures of one list; a `Corpus`. `metadata` has `turns`, `overlap`, `turn_count`,
    `speakers` and `times` (`energy` or `files`: where the turns' times come from)."""

    def __init__(
        self,
        name: str,
        mixtures: list[_Mixture],
        sources: RecordingsCorpus,
        quarantine: list[Rejected],
        *,
        root: Path,
    ):
        self.name, self.mixtures, self.sources = name, mixtures, sources
        self.quarantine = quarantine
        self._bounds = SpeechBounds(sources, bounds_file(root, sources))

    def __len__(self) -> int:
        return len(self.mixtures)

    def utterance(self, i: int) -> Utterance:
        """See `Corpus`; reads the parts of the mixture the first time they are asked for."""
        mixture = self.mixtures[i]
        turns, times = self._turns(mixture)
        return Utterance(
            id=mixture.id,
            text=" ".join(turn.text for turn in turns),
            duration=mixture.duration,
            speaker="+".join(sorted(set(mixture.speakers))),
            metadata={
                "turns": turns,
                "overlap": round(overlap_share(turns), 4),
                "turn_count": len(turns),
                "speakers": len(set(mixture.speakers)),
                "times": times,
            },
        )

    def samples(self, i: int) -> np.ndarray:
        """See `Corpus`."""
        mixture = self.mixtures[i]
        if mixture.mixed is not None:
            return read_audio(mixture.mixed)
        pieces = [self.sources.samples(part) for part in mixture.parts]
        starts = [int(delay * SAMPLE_RATE) for delay in mixture.delays]
        lengths = [start + len(piece) for start, piece in zip(starts, pieces, strict=True)]
        mixed = np.zeros(max(lengths), np.float32)
        for start, piece in zip(starts, pieces, strict=True):
            mixed[start : start + len(piece)] += piece
        return to_int16(mixed)

    def _turns(self, mixture: _Mixture) -> tuple[tuple[Turn, ...], str]:
        spans = [(0.0, length) for length in mixture.durations]
        times = "files"
        if mixture.parts:
            try:
                found = [self._bounds[part] for part in mixture.parts]
            except (InputError, OSError):
                pass  # the mixture itself may be good
            else:
                spans = [(first / SAMPLE_RATE, last / SAMPLE_RATE) for first, last in found]
                times = "energy"
        turns = [
            Turn(round(delay + first, 4), round(delay + last, 4), text, speaker)
            for delay, (first, last), text, speaker in zip(
                mixture.delays, spans, mixture.texts, mixture.speakers, strict=True
            )
        ]
        return tuple(in_order(turns)), times


def open_librispeechmix(folder: Path, split: str, *, root: Path) -> MixtureCorpus:
    """The mixtures of one list, by its name (`test-clean-2mix`).

    Args:
      folder: what was cloned, with `list/` and `data/`, or a folder with the lists and the audio.
      split: the list's name.
      root: the data root, where the speech bounds of the parts are kept.

    Raises:
      InputError: when there is no such list, or nothing of it can be used.
    """
    if split not in SPLITS:
        raise InputError(f"LibriSpeechMix has no list {split!r}; its lists: {', '.join(SPLITS)}.")
    listing = next(
        (p for p in (folder / "list" / f"{split}.jsonl", folder / f"{split}.jsonl") if p.is_file()),
        None,
    )
    if listing is None:
        raise InputError(
            f"librispeechmix:{folder} holds neither list/{split}.jsonl nor {split}.jsonl; "
            "give the folder of the repository."
        )
    audio = next((p for p in (folder / "data", folder) if p.is_dir()), folder)
    rows: list[tuple[str, dict[str, Any]]] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(listing.read_text("utf-8", errors="replace").split("\n"), 1):
        where = f"{listing}:{number}"
        if line.strip():
            try:
                rows.append((where, _checked(line)))
            except InputError as error:
                rejected.append(Rejected(where, str(error)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: _locate(audio, row[1]), rows))
    sources: dict[Path, int] = {}
    recordings: list[Recording] = []
    mixtures: list[_Mixture] = []
    for (where, row), (mixed, parts) in zip(rows, found, strict=True):
        if mixed is None and not parts:
            rejected.append(Rejected(where, f"neither {row['mixed_wav']} nor its parts are there."))
            continue
        for path, length, speaker in zip(parts, row["durations"], row["speakers"], strict=False):
            if path not in sources:
                sources[path] = len(recordings)
                key = str(path.relative_to(audio))
                recordings.append(Recording(Utterance(key, "", float(length), str(speaker)), path))
        mixtures.append(
            _Mixture(
                id=str(row["id"]),
                mixed=mixed,
                texts=tuple(text.lower() for text in row["texts"]),
                delays=tuple(map(float, row["delays"])),
                durations=tuple(map(float, row["durations"])),
                speakers=tuple(map(str, row["speakers"])),
                parts=tuple(sources[path] for path in parts),
            )
        )
    if not mixtures:
        reason = f" (the first: {rejected[0].reason.rstrip('.')})" if rejected else ""
        raise InputError(f"{listing}: none of its mixtures can be used{reason}.")
    name = f"librispeechmix {split}"
    return MixtureCorpus(
        name, mixtures, RecordingsCorpus(f"{name} of {audio}", recordings), rejected, root=root
    )


def _checked(line: str) -> dict[str, Any]:
    """A row whose lists are there and as long as each other."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("is broken JSON.") from None
    if not isinstance(row, dict):
        raise InputError("is not a JSON object.")
    for key in ("id", "mixed_wav"):
        if not isinstance(row.get(key), str):
            raise InputError(f"has no {key}.")
    for key in _LISTS:
        if not isinstance(row.get(key), list) or len(row[key]) != len(row["texts"]):
            raise InputError(f"has no {key}, or not one for each text.")
    numbers = [*row["delays"], *row["durations"]]
    if not all(isinstance(x, int | float) and 0 <= x < 1e6 for x in numbers) or not row["texts"]:
        raise InputError("has delays or durations that are no seconds, or no texts.")
    if not all(isinstance(text, str) for text in row["texts"]) or min(row["durations"]) <= 0:
        raise InputError("has texts that are none, or a duration of nothing.")
    row["wavs"] = row.get("wavs") or []
    if not isinstance(row["wavs"], list) or not all(isinstance(x, str) for x in row["wavs"]):
        raise InputError("has wavs that are no names.")
    return row


def _locate(audio: Path, row: dict[str, Any]) -> tuple[Path | None, list[Path]]:
    """The mixture and its parts, as far as they are there: all the parts, or none."""
    mixed = audio / row["mixed_wav"]
    parts = [_part(audio, name) for name in row["wavs"]]
    whole = [path for path in parts if path is not None]
    if len(whole) != len(row["texts"]):
        whole = []
    return (mixed if mixed.is_file() else None), whole


def _part(audio: Path, name: str) -> Path | None:
    """A part's file: as WAV, or still as LibriSpeech's FLAC."""
    path = audio / name
    return next((p for p in (path, path.with_suffix(".flac")) if p.is_file()), None)
