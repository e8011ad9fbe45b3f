"""`parley import`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..data.errors import InputError
from .arguments import parse
from .console import remark


@dataclass(frozen=True)
class ImportArguments:
    """Writes a public FastConformer transducer as a model folder, to be used like any other:
    transformers' ParakeetForRNNT, ParakeetForTDT and NemotronAsrStreamingForRNNT, and NeMo's .nemo
    archives of the same (for these, pip install 'parley-asr[import]').

    * parley import nvidia/parakeet-tdt-0.6b-v2 --out parakeet
    * parley import parakeet-tdt-0.6b-v2.nemo --out parakeet
    * parley import nvidia/nemotron-speech-streaming-en-0.6b --out nemotron --lookahead 1
    * parley transcribe parakeet recording.wav
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A folder that transformers wrote, its name on the Hugging Face hub, or a .nemo archive."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """The model folder to write; an earlier model there is replaced, anything else left alone."""
    name: str = ""
    """Of the model in its card; by default the source's."""
    lookahead: int | None = None
    """Of a streaming model: frames of 80 ms that it may look ahead, one of those that it was
    trained with. By default the source's own."""
    storage: Literal["float16", "float32"] = "float16"
    """Of the weights' matrices: float16 halves the folder and rounds them to 11 bits."""
    json: bool = False
    """Print what was written as JSON."""


def import_command(argv: list[str]) -> int:
    given = parse(ImportArguments, argv, "parley import")
    target = given.out.expanduser()
    _check_target(target)
    from .cards import CARD, read_card
    from .importing import import_model

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as p:
        task = p.add_task("reading", total=None)
        import_model(
            given.source,
            target,
            name=given.name,
            lookahead=given.lookahead,
            storage=given.storage,
            on_part=lambda part: p.update(task, description=part),
        )
    facts = read_card(target / CARD).facts
    if given.json:
        told = {"folder": str(target), "name": facts.name, "parameters": facts.parameters}
        print(json.dumps({**told, "streaming": facts.streaming, "step_ms": facts.step_ms}))
        return 0
    remark(
        f"{facts.name}: {facts.parameters:,} parameters; try: parley transcribe {target} "
        "recording.wav"
    )
    print(target)
    return 0


def _check_target(target: Path) -> None:
    """Raises InputError unless the folder is absent, empty or a model's."""
    if target.is_dir():
        if any(target.iterdir()) and not (target / "recipe.json").is_file():
            raise InputError(
                f"{target} is not empty and no model folder: give a folder that does not exist."
            )
    elif target.exists():
        raise InputError(f"{target} is a file: give a folder that does not exist.")
