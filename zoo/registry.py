"""What models there are: those shipped with their weights, and presets that wait for training.

Looking up reads cards and one data file; no model code is imported.
"""

import difflib
import json
from dataclasses import dataclass
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


def list_models() -> list[Entry]:
    """Every model, trained ones first, by name."""
    entries = {name: Entry(Facts(**facts)) for name, facts in presets_data().items()}
    for path in sorted(MODELS.glob(f"*/{CARD}")):
        card = read_card(path)
        entries[card.facts.name] = Entry(card.facts, card.results, card.verification, path.parent)
    return sorted(entries.values(), key=lambda entry: (not entry.trained, entry.name))


def presets_data() -> dict[str, dict[str, Any]]:
    """name -> fields of `Facts`, for every preset."""
    return json.loads(PRESETS_FILE.read_text())


def search(
    text: str = "",
    *,
    streaming: bool | None = None,
    trained: bool | None = None,
    max_params: float | None = None,
    max_step_ms: float | None = None,
    license: str | None = None,
) -> list[Entry]:
    """Models that meet every condition given.

    Args:
      text: words that must all occur in name, family, description or the data measured on.
      streaming: whether it answers while the audio arrives.
      trained: whether weights are there.
      max_params: most parameters.
      max_step_ms: longest step of the encoder, in milliseconds of audio.
      license: as the card writes it, `apache-2.0`.
    """

    def fits(entry: Entry) -> bool:
        facts = entry.facts
        about = " ".join(
            [
                *(facts.name, facts.family, facts.description, facts.task or ""),
                *(r.name for r in (*entry.results, *entry.verification)),
            ]
        ).lower()
        return (
            all(word in about for word in text.lower().split())
            and (streaming is None or facts.streaming == streaming)
            and (trained is None or entry.trained == trained)
            and (max_params is None or facts.parameters <= max_params)
            and (max_step_ms is None or facts.step_ms <= max_step_ms)
            and (license is None or facts.license == license)
        )

    return [entry for entry in list_models() if fits(entry)]


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

    A registered name means the registered model, whatever lies in the working directory.
    """
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
