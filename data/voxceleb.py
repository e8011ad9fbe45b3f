"""VoxCeleb's layout: `wav/id10270/5r0dWxy17C8/00001.wav`, and a table of its speakers.

The folder that is given holds `wav/` (VoxCeleb1) or `aac/`, or the speakers' folders themselves;
beside it, or in it, may lie `vox1_meta.csv` or `vox2_meta.csv`, which give gender, nationality and
the set. An utterance's id is as in the official trial lists: `id10270/5r0dWxy17C8/00001.wav`.
Sources: Nagrani et al. 2017, arXiv 1706.08612; Chung et al. 2018, arXiv 1806.05622.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .audio import audio_info, is_audio_name
from .corpus import Utterance
from .errors import InputError, Rejected
from .manifest import Recording, RecordingsCorpus

SPLITS = ("dev", "test", "all")
_TABLES = ("vox1_meta.csv", "vox2_meta.csv")


def open_voxceleb(folder: Path, split: str) -> RecordingsCorpus:
    """One split; metadata: gender (female, male), nationality and video, where they are known.

    Args:
      split: dev or test, by the table's column Set; all, or any where no table is there.

    Raises:
      InputError: no such split, or no recording is found.
    """
    if split not in SPLITS:
        raise InputError(f"VoxCeleb has no split {split!r}; its splits: {', '.join(SPLITS)}.")
    if not folder.is_dir():
        raise InputError(f"voxceleb:{folder} is no folder; give the one that holds wav.")
    base = next((folder / name for name in ("wav", "aac") if (folder / name).is_dir()), folder)
    known = _table(folder)
    files = sorted(path for path in base.glob("id*/*/*") if is_audio_name(path) and path.is_file())
    if known and split != "all":
        files = [path for path in files if known.get(_speaker(path), {}).get("set") == split]
    if not files:
        what = f"no recordings of {split}" if known else "no recordings"
        raise InputError(
            f"voxceleb:{folder} holds {what}: they lie in wav/id10270/VIDEO/00001.wav and the like "
            "(convert .m4a to .wav or .flac)."
        )

    def entry(path: Path) -> Recording | Rejected:
        name = path.relative_to(base).as_posix()
        try:
            duration = audio_info(path).duration
        except InputError as error:
            return Rejected(name, str(error))
        about = {k: v for k, v in known.get(_speaker(path), {}).items() if k != "set"}
        metadata = {**about, "video": path.parent.name}
        return Recording(Utterance(name, "", duration, _speaker(path), metadata), path)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(entry, files))
    return RecordingsCorpus(
        f"VoxCeleb {folder.name}, {split}",
        [item for item in found if isinstance(item, Recording)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _speaker(path: Path) -> str:
    return path.parent.parent.name


def _table(folder: Path) -> dict[str, dict[str, str]]:
    """What is known of each speaker; empty without a table."""
    known: dict[str, dict[str, str]] = {}
    for place in (folder, folder.parent):
        for name in _TABLES:
            if (place / name).is_file():
                known |= _rows((place / name).read_text(encoding="utf-8", errors="replace"))
    return known


def _rows(text: str) -> dict[str, dict[str, str]]:
    """VoxCeleb1's table has tabs and nationalities, VoxCeleb2's commas and none."""
    header, *lines = text.splitlines() or [""]
    separator = "\t" if "\t" in header else ","
    columns = [column.strip().lower() for column in header.split(separator)]
    found = {}
    for line in lines:
        fields = dict(
            zip(columns, (field.strip() for field in line.split(separator)), strict=False)
        )
        speaker = next((v for v in fields.values() if v.startswith("id")), "")
        if speaker:
            gender = fields.get("gender", "").lower()
            about = {
                "gender": {"m": "male", "f": "female"}.get(gender, gender),
                "nationality": fields.get("nationality", ""),
                "set": fields.get("set", "").lower(),
            }
            found[speaker] = {key: value for key, value in about.items() if value}
    return found
