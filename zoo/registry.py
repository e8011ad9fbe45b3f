"""What models there are: those shipped with their weights, and presets that wait for training.

Looking up reads cards and one data file; no model code is imported.
"""

import difflib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.errors import InputError
from .cards import CARD, Card, Facts, Measurement, new_card, read_card
from .speaker_cards import SpeakerMeasurement

MODELS = Path(__file__).with_name("models")
"""Shipped model folders."""
PRESETS_FILE = Path(__file__).with_name("presets.json")
"""What configs/ holds, as data; `python -m parley.zoo.presets` writes it."""


@dataclass(frozen=True)
class Entry:
    """A model's line in the registry."""

    facts: Facts
    results: tuple[Measurement, ...] = ()
    verification: tuple[SpeakerMeasurement, ...] = ()
    folder: Path | None = None
    """Where the weights lie; None for a preset without."""

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def trained(self) -> bool:
        return self.folder is not None

    @property
    def headline(self) -> Measurement | SpeakerMeasurement | None:
        """The measurement that stands first in its card."""
        return next(iter((*self.results, *self.verification)), None)

    @property
    def error(self) -> float | None:
        """The headline's error rate in percent: WER, or EER of a speaker model."""
        first = self.headline
        return first.wer if isinstance(first, Measurement) else first.eer if first else None


def list_models() -> list[Entry]:
    """Every model, trained ones first, by name."""
    entries = {name: Entry(Facts(**facts)) for name, facts in presets_data().items()}
    for path in sorted(MODELS.glob(f"*/{CARD}")):
        about = path.stat()
        card = _shipped(path, about.st_mtime_ns, about.st_size)
        entries[card.facts.name] = Entry(card.facts, card.results, card.verification, path.parent)
    return sorted(entries.values(), key=lambda entry: (not entry.trained, entry.name))


@lru_cache(maxsize=512)
def _shipped(path: Path, mtime_ns: int, size: int) -> Card:
    """The card at `path`, read once as long as it stays the same."""
    return read_card(path)


def presets_data() -> dict[str, dict[str, Any]]:
    """name -> fields of `Facts`, for every preset."""
    return json.loads(PRESETS_FILE.read_text())


def find(name: str) -> Entry:
    """The entry of a registered name. Raises InputError, with the nearest names, for others."""
    entries = {entry.name: entry for entry in list_models()}
    if name not in entries:
        raise unknown_name(name, list(entries), "model", "parley list")
    return entries[name]


def card(name_or_path: str | Path) -> Card:
    """The card of a registered model, of a model folder or of a training run's folder."""
    entry, folder = _resolve(name_or_path)
    if folder is not None:
        return read_card(folder / CARD)
    assert entry is not None
    return new_card(entry.facts)


def folder_of(name_or_path: str | Path) -> Path:
    """Where the model lies that a user named.

    Raises:
      InputError: nothing has this name, or it is a preset without weights.
    """
    _, folder = _resolve(name_or_path)
    if folder is None:
        raise InputError(
            f"{name_or_path} is a preset without weights: train it (parley train {name_or_path}) "
            f"and give the folder that training names."
        )
    return folder


def _resolve(name_or_path: str | Path) -> tuple[Entry | None, Path | None]:
    """(registered entry, model folder), one of which may be None.

    A registered name means the registered model, whatever lies in the working directory; a name
    that begins with hf:// one on the hub, which is fetched.
    """
    if isinstance(name_or_path, str) and name_or_path.startswith("hf://"):
        from .hub import fetch, read_reference

        return None, fetch(read_reference(name_or_path))
    entry = {e.name: e for e in list_models()}.get(str(name_or_path))
    if entry is not None and entry.folder is not None:
        return entry, entry.folder
    folder = as_folder(name_or_path)
    if folder is None and entry is None:
        if Path(name_or_path).expanduser().is_dir():
            raise InputError(
                f"{name_or_path} is no model folder: it holds no weights.safetensors, nor does "
                f"a folder model in it."
            )
        find(str(name_or_path))
    return entry, folder


def as_folder(name_or_path: str | Path) -> Path | None:
    """The model folder at a path: itself, or `model` inside a run's folder."""
    path = Path(name_or_path).expanduser()
    for folder in (path, path / "model"):
        if (folder / "weights.safetensors").is_file():
            return folder
    return None


def unknown_name(name: str, known: list[str], kind: str, command: str) -> InputError:
    """The error for a name that is not there, with those that look like it."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
    return InputError(f"no {kind} is called {name!r}: {hint} ({command} shows all.)")
