"""What users touch: look models up, load them, transcribe.

    from parley import zoo
    print(zoo.load("rnnt-tiny").transcribe("recording.wav"))

Looking up imports no JAX; `load` does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ..data.errors import InputError
from .registry import Entry, card, find, list_models
from .search import Query, search

if TYPE_CHECKING:
    from .decoding import Decoding
    from .speakers import SpeakerModel
    from .transcriber import Transcriber

SpeakerModelName: TypeAlias = Literal["speaker-tiny", "speaker-tiny-pw"]

__all__ = ["Entry", "Query", "card", "find", "list_models", "load", "search"]


@overload
def load(name_or_path: SpeakerModelName) -> "SpeakerModel": ...


@overload
def load(name_or_path: str | Path, *, decoding: "Decoding | None" = None) -> "Transcriber": ...


def load(name_or_path: str | Path, *, decoding: "Decoding | None" = None) -> Any:
    """A model, ready to transcribe: by its registered name, from a folder, or from the Hugging
    Face Hub (`hf://organisation/name@revision`, see `hub`).

    A speaker model, `load("speaker-tiny")`, is a `SpeakerModel` and embeds; where its folder is
    named by a path, a type checker knows it by `zoo.speakers.load_speaker_model`.

    The folder is a model's own (`recipe.json`, `weights.safetensors`, `tokenizer.model`), that of
    a training run, which holds it as `model`, or one that `parley export` wrote. Raises
    `InputError` (a `ValueError`) for a name that is not known, with the nearest ones, and for a
    folder that is damaged. `decoding`: a beam, language models, phrases; greedy search without.

    Compiled programs are kept in ~/.cache/parley/jax, unless JAX has been given a cache already.
    """
    from .registry import folder_of

    folder = folder_of(name_or_path)
    if decoding is None and not (folder / "export.json").is_file():
        from .speaker_package import is_speaker_folder

        if is_speaker_folder(folder):
            from .speakers import load_speaker_model

            return load_speaker_model(folder)
    if (folder / "export.json").is_file():
        from .exported import load_exported

        if decoding is not None and (decoding.beam > 1 or decoding.theta is not None):
            raise InputError(
                f"{folder} holds the programs of greedy search only: for a beam or another theta, "
                "give the model that it was exported from."
            )
        return load_exported(folder)

    from .package import read_model
    from .recognizer import Recognizer
    from .transcriber import Transcriber

    package = read_model(folder)
    recognizer = Recognizer(package) if decoding is None else Recognizer(package, decoding)
    return Transcriber(package.recipe.name, folder, recognizer)
