"""LibriSpeech (Panayotov et al., ICASSP 2015; openslr.org/12) from what is on disk already.

Found under the folder that is given, in this order:

    train-clean-100/ or LibriSpeech/train-clean-100/    the extracted archive
    train-clean-100.tar or .tar.gz, any prefix          the archive itself
    librispeech/default/2.1.1/ and the like             prepared by TensorFlow Datasets

FLAC does not get smaller in gzip, and gzip cannot be read at an offset: a `.tar.gz` is unpacked
once, to a plain `.tar` under the data root that takes about as much space, and read from there.
Nothing is downloaded, and nothing written into the folder.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .audio import SAMPLE_RATE, audio_info
from .corpus import Corpus, Utterance
from .errors import InputError, Rejected
from .manifest import Recording, RecordingsCorpus
from .packed import Entry, PackedCorpus, indexed

SPLITS = (
    *("train-clean-100", "train-clean-360", "train-other-500"),
    *("dev-clean", "dev-other", "test-clean", "test-other"),
)


_MOST_UNPACKED = 20
"""Times its packed size."""


def open_librispeech(folder: Path, split: str, *, root: Path, progress: bool = True) -> Corpus:
    """One split, by its archive's name; metadata has gender and name where SPEAKERS.TXT is there.

    Args:
      folder: where the archives, their folders or the prepared data set lie.
      split: `train-clean-100`, ...; several joined by `+`.
      root: the data root: indices, and tarballs unpacked once, go to its `librispeech/`.
      progress: whether the long passes show a bar.

    Raises:
      InputError: when the folder has no such split, an archive is damaged, or the disk is full.
    """
    if "+" in split:
        from .views import ConcatCorpus

        parts = [
            open_librispeech(folder, part, root=root, progress=progress)
            for part in split.split("+")
        ]
        return ConcatCorpus(parts)
    if split not in SPLITS:
        raise InputError(f"LibriSpeech has no split {split!r}; its splits: {', '.join(SPLITS)}.")
    if not folder.is_dir():
        raise InputError(f"librispeech:{folder} is no folder; give the one with the archives.")
    work = root / "librispeech"
    for base in (folder, folder / "LibriSpeech"):
        if (base / split).is_dir():
            return _open_extracted(base, split)
    archives = sorted(
        path
        for suffix in ("tar", "tar.gz", "tgz")
        for path in folder.glob(f"*{split}*.{suffix}")
        if path.is_file()
    )
    if archives:
        return _open_archive(archives[0], split, work, progress)
    from .librispeech_tfds import find_shards, open_shards

    shards = find_shards(folder, split)
    if shards:
        return open_shards(shards, split, work, progress)
    present = [name for name in SPLITS if any(folder.rglob(f"*{name}*"))]
    raise InputError(
        f"librispeech:{folder} holds neither the folder nor the archive of {split}"
        + (f"; there are {', '.join(present)}." if present else ".")
    )


def transcripts(text: str) -> Iterator[tuple[str, str]]:
    """(utterance id, text) of a `.trans.txt` file."""
    for line in text.splitlines():
        key, _, words = line.strip().partition(" ")
        if words:
            yield key, words.lower()


def speakers(text: str) -> dict[str, dict[str, Any]]:
    """Metadata by speaker id, of SPEAKERS.TXT."""
    found = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 4)]
        if len(fields) == 5 and not line.startswith(";"):
            gender = {"F": "female", "M": "male"}.get(fields[1], fields[1])
            found[fields[0]] = {"gender": gender, "name": fields[4]}
    return found


def work_file(work: Path, path: Path, suffix: str) -> Path:
    """A file of the data root that belongs to `path` and no other of its name."""
    mark = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    return work / f"{path.name.partition('.tar')[0]}-{mark}{suffix}"


def _open_extracted(base: Path, split: str) -> Corpus:
    known: dict[str, dict[str, Any]] = {}
    listing = base / "SPEAKERS.TXT"
    if listing.is_file():
        known = speakers(listing.read_text("utf-8", errors="replace"))
    lines = [
        (transcript.parent / f"{key}.flac", key, text)
        for transcript in sorted((base / split).rglob("*.trans.txt"))
        for key, text in transcripts(transcript.read_text("utf-8", errors="replace"))
    ]

    def parse(line: tuple[Path, str, str]) -> Recording | Rejected:
        path, key, text = line
        try:
            seconds = audio_info(path).duration
        except InputError as error:
            return Rejected(key, str(error))
        speaker = key.partition("-")[0]
        return Recording(Utterance(key, text, seconds, speaker, known.get(speaker, {})), path)

    with ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(parse, lines))
    recordings = [item for item in parsed if isinstance(item, Recording)]
    if not recordings:
        raise InputError(f"{base / split} holds no transcribed recordings; extract it again.")
    rejected = [item for item in parsed if isinstance(item, Rejected)]
    return RecordingsCorpus(f"librispeech {split}", recordings, rejected)


def _open_archive(archive: Path, split: str, work: Path, progress: bool) -> Corpus:
    plain = archive
    if archive.suffix != ".tar":
        plain = work_file(work, archive, ".tar")
        if not plain.is_file() or plain.stat().st_mtime_ns != archive.stat().st_mtime_ns:
            _unpack(archive, plain, progress)
    known: dict[str, dict[str, Any]] = {}
    index = work_file(work, plain, ".index.jsonl")
    try:
        entries = indexed(index, [plain], lambda: _scan(plain, split))
        with tarfile.open(plain, "r:") as tar:
            for member in tar:  # SPEAKERS.TXT lies near the front
                if member.isfile() and member.name.endswith("SPEAKERS.TXT"):
                    known = speakers(_text(tar, member))
                    break
                if member.name.endswith(".flac"):
                    break
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{archive} is damaged or cut short ({error}); copy it again.") from None
    if not entries:
        raise InputError(f"{archive} holds no transcribed recordings of {split}.")
    return PackedCorpus(f"librispeech {split}", [plain], entries, metadata=known)


def _unpack(archive: Path, plain: Path, progress: bool) -> None:
    """gunzip to `plain`, through a file of another name, so that half of one is never used."""
    size = archive.stat().st_size
    partial = plain.with_name(f"{plain.name}.{os.getpid()}.partial")
    try:
        plain.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(plain.parent).free < 1.05 * size:
            raise InputError(
                f"{archive} needs {size / 1e9:.1f} GB in {plain.parent}, more than is free; "
                "make room or set PARLEY_DATA to another disk."
            )
        with open(archive, "rb") as raw, open(partial, "wb") as out:
            packed = gzip.GzipFile(fileobj=raw)
            for block in _with_bar(_blocks(packed), raw, size, archive.name, progress):
                out.write(block)
                # FLAC does not get smaller: what does, is no recordings.
                if out.tell() > _MOST_UNPACKED * size + (1 << 24):
                    raise InputError(
                        f"{archive} unpacks to far more than recordings do; look at it."
                    )
        # The archive's time stamps which archive this was made of.
        stamp = archive.stat().st_mtime_ns
        os.utime(partial, ns=(stamp, stamp))
        os.replace(partial, plain)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{archive} is damaged or cut short; copy it again.") from None
    except OSError as error:
        raise InputError(f"{archive} cannot be unpacked to {plain} ({error.strerror}).") from None
    finally:
        partial.unlink(missing_ok=True)


def _blocks(packed: gzip.GzipFile) -> Iterator[bytes]:
    while block := packed.read(1 << 20):
        yield block


def _with_bar(
    blocks: Iterable[bytes], raw: Any, size: int, name: str, progress: bool
) -> Iterator[bytes]:
    """Passes blocks on and shows how far `raw` has been read."""
    if not progress:
        yield from blocks
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(f"unpacking {name}", total=size)
        for block in blocks:
            bar.update(task, completed=raw.tell())
            yield block


def _scan(plain: Path, split: str) -> Iterator[Entry]:
    """One pass over the headers of a tar: transcripts, and where each FLAC lies."""
    texts: dict[str, str] = {}
    found: dict[str, tuple[int, int, float]] = {}
    with tarfile.open(plain, "r:") as tar, open(plain, "rb") as raw:
        for member in tar:
            if not member.isfile() or f"/{split}/" not in f"/{member.name}":
                continue
            if member.name.endswith(".trans.txt"):
                texts.update(transcripts(_text(tar, member)))
            elif member.name.endswith(".flac"):
                raw.seek(member.offset_data)
                seconds = _flac_seconds(raw.read(42))
                if seconds is not None:
                    found[Path(member.name).stem] = (member.offset_data, member.size, seconds)
    for key in sorted(texts.keys() & found.keys()):
        offset, size, seconds = found[key]
        yield Entry(key, texts[key], key.partition("-")[0], seconds, 0, offset, size)


def _flac_seconds(head: bytes) -> float | None:
    """Duration from the STREAMINFO block, with which every FLAC file begins (RFC 9639, 8.2)."""
    if len(head) < 42 or not head.startswith(b"fLaC"):
        return None
    packed = int.from_bytes(head[18:26], "big")  # rate 20 bits, channels 3, depth 5, samples 36
    return (packed & ((1 << 36) - 1)) / ((packed >> 44) or SAMPLE_RATE)


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    return file.read().decode("utf-8", errors="replace") if file else ""
