"""`parley export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from ..data.errors import InputError
from .arguments import parse
from .console import remark
from .registry import folder_of


@dataclass(frozen=True)
class ExportArguments:
    """Writes a model's programs as StableHLO, with its weights, tokenizer and card: a folder for
    CPU, CUDA GPU and TPU that runs without the model's Python code.

    * parley export rnnt-tiny --to rnnt-tiny.export
    * parley export runs/mine --to mine.export
    * parley transcribe mine.export recording.wav
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    to: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder to write; an earlier export there is replaced, anything else is left alone."""


def export_command(argv: list[str]) -> int:
    given = parse(ExportArguments, argv, "parley export")
    source = folder_of(given.model)
    from .export import check_target, export_model
    from .exported import MANIFEST
    from .package import read_model

    if (source / MANIFEST).is_file():
        raise InputError(
            f"{source} is an export already: give the model that it was made of, or copy it."
        )
    target = given.to.expanduser()
    check_target(target)
    package = read_model(source)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("exporting", total=1.0)
        manifest = export_model(
            package, target, on_program=lambda done: progress.update(task, completed=done)
        )
    size = sum(path.stat().st_size for path in target.iterdir())
    remark(
        f"{len(manifest.programs)} programs for {', '.join(manifest.platforms)}, with the weights "
        f"{size / 1e6:,.1f} MB; try: parley transcribe {target} recording.wav"
    )
    print(target)
    return 0
