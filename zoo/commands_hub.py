"""`parley push`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import remark
from .registry import folder_of


@dataclass(frozen=True)
class PushArguments:
    """Publishes a model on the Hugging Face Hub: weights, card, tokenizer, recipe, their hashes.
    The card is checked first, as by parley card lint. Log in once with: hf auth login.

    Everybody can then use it by the name that is printed, parley transcribe hf://org/name@revision.

    * parley push runs/mine someone/rnnt-mine
    * parley push rnnt-tiny someone/rnnt-tiny --revision v2 --private
    * parley push runs/mine --to-folder to-publish
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A name that `parley list` shows, or a model's folder."""
    repo: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[ORG/NAME]")] = None
    """The repository; it is made where there is none."""
    revision: Annotated[str | None, tyro.conf.arg(metavar="BRANCH")] = None
    """A branch to publish on; by default the main one."""
    private: bool = False
    """Make a new repository private."""
    to_folder: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write what would be published into a folder instead."""
    unchecked: bool = False
    """Publish even if the card has problems."""


def push_command(argv: list[str]) -> int:
    given = parse(PushArguments, argv, "parley push")
    if (given.repo is None) == (given.to_folder is None):
        raise InputError("say where to: organisation/name, or --to-folder; not both.")
    from .card_lint import lint_folder
    from .hub import pack, push
    from .package import read_model
    from .speaker_package import is_speaker_folder, read_speaker_model

    folder = folder_of(given.model)
    # Nothing leaves that is not a whole model.
    (read_speaker_model if is_speaker_folder(folder) else read_model)(folder)
    problems = [] if given.unchecked else lint_folder(folder)
    if problems:
        more = f", and {len(problems) - 1} more (parley card lint)" if problems[1:] else ""
        raise InputError(f"{problems[0].rstrip('.')}{more}: put it right, or give --unchecked.")
    if given.to_folder is not None:
        if given.to_folder.exists() and not (given.to_folder / "weights.safetensors").is_file():
            raise InputError(f"{given.to_folder} is there and is no model: give another folder.")
        pack(folder, given.to_folder)
        print(given.to_folder)
        return 0
    assert given.repo is not None
    print(push(folder, given.repo, revision=given.revision, private=given.private))
    remark("this name is for good; without @ it means whatever is newest")
    return 0
