"""What users touch: look models up, load them, transcribe.

    from parley import zoo
    print(zoo.load("rnnt-tiny").transcribe("recording.wav"))

Looking up imports no JAX; `load` does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from .registry import Entry, card, find, list_models, search

if TYPE_CHECKING:
    from .transcriber import Transcriber

__all__ = ["Entry", "card", "find", "list_models", "load", "search"]


def load(name_or_path: str | Path) -> "Transcriber":
    """A model, ready to transcribe: by its registered name, or from a folder.

    The folder is a model's own (`recipe.json`, `weights.safetensors`, `tokenizer.model`) or that
    of a training run, which holds it as `model`. Raises `InputError` (a `ValueError`) for a name
    that is not known, with the nearest ones, and for a folder that is damaged.

    Compiled programs are kept in ~/.cache/parley/jax, unless JAX has been given a cache already.
    """
    from .registry import folder_of

    folder = folder_of(name_or_path)

    from .package import read_model
    from .recognizer import Recognizer
    from .transcriber import Transcriber

    package = read_model(folder)
    return Transcriber(package.recipe.name, folder, Recognizer(package))
