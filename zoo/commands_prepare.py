"""`parley prepare`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import amount, remark


@dataclass(frozen=True)
class PrepareArguments:
    """A corpus as shards that a training host reads fast: decoded, 16 kHz, in random order of
    access, one TFDS dataset. Written by Apache Beam, several workers at once (extra beam).

    * parley prepare librispeech:/data/LibriSpeech --split train-clean-100 --out /data/clean100
    * parley prepare recordings.jsonl --out /data/mine --workers 8
    * parley prepare "assistant?utterances=300" --split train --out /data/assistant
    * parley train rnnt-30m --data.train tfds:/data/clean100 --data.train-split train-clean-100
    """

    corpus: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CORPUS")]
    """As `parley evaluate` takes it; not one that is drawn anew in every epoch."""
    out: Path
    """The dataset's folder: new, or left over from a preparation that was stopped."""
    split: str = "train"
    """Of the corpus; the split has the same name in the folder."""
    name: str = "speech"
    """Of the dataset: small letters, digits and underscores."""
    workers: int = 2
    """Processes of Beam's direct runner."""
    shards: int = 0
    """How many; 0: of about two hours of audio each."""
    beam: tuple[str, ...] = ()
    """Options of another runner, as --beam=--runner=DataflowRunner."""
    json: bool = False
    """Print JSON."""


def prepare_command(argv: list[str]) -> int:
    given = parse(PrepareArguments, argv, "parley prepare")
    if not given.name.isidentifier() or given.name != given.name.lower():
        raise InputError(f"--name {given.name!r}: give small letters, digits and underscores.")
    if (given.out / "dataset_info.json").exists():
        raise InputError(f"{given.out} holds a dataset already: choose another --out.")
    from ..data.prepare_beam import prepare

    remark(f"preparing {given.corpus} with {given.workers} workers")
    shards = prepare(
        given.corpus,
        given.split,
        given.out,
        given.name,
        workers=given.workers,
        shards=given.shards,
        options=list(given.beam) or None,
    )
    count, seconds = sum(s.count for s in shards), sum(s.seconds for s in shards)
    rejected = [r for s in shards for r in s.rejected]
    if given.json:
        shown = {
            "folder": str(given.out),
            "utterances": count,
            "seconds": seconds,
            "shards": len(shards),
            "left_out": len(rejected),
        }
        print(json.dumps(shown, indent=1))
        return 0
    print(
        f"{given.out}: {count:,} utterances, {amount(seconds)}, in {len(shards)} shards; "
        f"use it as tfds:{given.out}"
    )
    if rejected:
        remark(f"{len(rejected):,} left out, see quarantine.jsonl; the first: {rejected[0]}")
    return 0
