"""`parley fairness assign` and `parley fairness units`."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..data.files import replace_file
from .arguments import parse
from .commands_evaluate import has_splits
from .console import remark, stdout, table

if TYPE_CHECKING:
    from ..data.corpus import Corpus
    from ..fairness.cohorts import Cohorts
    from ..fairness.population import Population


@dataclass(frozen=True)
class AssignArguments:
    """Says of every speaker of a corpus which cohort he is of. With cohorts=FILE in its name, the
    corpus's recordings then have cohort, cohort_rank (1 for the worst) and cohort_group (bottom,
    middle or top) in their metadata, to select and to report by.

    * parley fairness assign regions --data "assistant?speakers=1000&seed=12" --split train \\
        --out assigned.json
    * parley evaluate rnnt-tiny --by cohort --split train \\
        --data "assistant?speakers=1000&seed=12&cohorts=assigned.json&cohort_group=bottom,top"
    """

    cohorts: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """What parley fairness discover wrote."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")]
    """words, assistant, librispeech:DIR or a manifest, with ?key=value&... to select from it."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """A JSON file: the cohorts, worst first, their groups, and each speaker's cohort."""
    split: str = "train"
    """Of an embedded corpus or LibriSpeech; a manifest has none."""
    speaker_model: str = ""
    """Where cohorts are of voices: the model that they were made with, if it lies elsewhere now."""
    json: bool = False
    """Print the number of speakers of each cohort as JSON."""


@dataclass(frozen=True)
class UnitsArguments:
    """Makes a table of areas of a corpus's speakers, as a census would give it: the share of each
    value of some columns among the speakers of each area. parley fairness discover --by units
    reads it. Take it of other speakers than those that are to be judged.

    * parley fairness units --data "assistant?speakers=700&utterances=1&seed=12" --split train \\
        --column zip --of accent gender --out zip.csv
    """

    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")]
    """words, assistant, librispeech:DIR or a manifest, with ?key=value&... to select from it."""
    of: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN...")]
    """Columns of the metadata whose values are counted."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """A table (.csv, or .tsv with tabs)."""
    column: str = "zip"
    """The column that names a speaker's area."""
    split: str = "train"
    """Of an embedded corpus or LibriSpeech; a manifest has none."""


def assign_command(argv: list[str]) -> int:
    given = parse(AssignArguments, argv, "parley fairness assign")
    from ..fairness.cohorts import read_cohorts
    from ..fairness.population import population_of_corpus
    from .discovery_report import why_none

    cohorts, ranking = read_cohorts(given.cohorts)
    corpus = open_corpus(given.data, given.split, require_text=False)
    population = population_of_corpus(corpus)
    population = _with_voices(given, cohorts, corpus, population)
    index = cohorts.assign(population)
    assignment = ranking.assignment(population.speakers, cohorts.names, index)
    if not assignment.speakers:
        raise InputError(
            f"no speaker of {corpus.name} is of a cohort of {given.cohorts}: "
            f"{why_none(cohorts.kind)}."
        )
    counts = dict.fromkeys(assignment.cohorts, 0)
    for name in assignment.speakers.values():
        counts[name] += 1
    summary = {
        "kind": cohorts.kind,
        "data": given.data,
        "split": given.split if has_splits(given.data) else "",
        "command": shlex.join(["parley", "fairness", "assign", *argv]),
        "counts": counts,
        "without_cohort": int((index < 0).sum()),
        "without_speaker": population.without_speaker,
    }
    record = {
        **summary,
        "cohorts": list(assignment.cohorts),
        "groups": dict(assignment.groups),
        "speakers": dict(assignment.speakers),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(given.out, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    if given.json:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
        return 0
    rows = table("rank", "cohort", "", "speakers", right=("rank", "speakers"))
    for place, (name, count) in enumerate(counts.items(), 1):
        group = assignment.groups.get(name)
        shown = group if group in ("bottom", "top") else ""
        rows.add_row(str(place) if group else "-", name, shown, f"{count:,}")
    stdout().print(rows)
    remark(
        f"{len(assignment.speakers):,} of {len(population.speakers):,} speakers of {corpus.name} "
        f"are in {given.out}; {summary['without_cohort']:,} are of no cohort"
    )
    return 0


def _with_voices(
    given: AssignArguments, cohorts: "Cohorts", corpus: "Corpus", population: "Population"
) -> "Population":
    """The population with embeddings, where cohorts are of voices."""
    from ..fairness.clusters import Clusters

    if not isinstance(cohorts, Clusters):
        return population
    from .commands_discover import PIECES
    from .corpus_embeddings import hear_speakers
    from .speakers import load_speaker_model

    name, fingerprint = cohorts.model
    model = load_speaker_model(given.speaker_model or name)
    if model.package.fingerprint != fingerprint:
        raise InputError(
            f"{given.cohorts} was made with {name} as it then was, and embeddings of two models "
            "have nothing in common: name that model with --speaker-model, or run parley fairness "
            "discover again."
        )
    heard = hear_speakers(model, corpus, population.speakers, given.cohorts / PIECES)
    return replace(population, embeddings=heard.embeddings)


def units_command(argv: list[str]) -> int:
    given = parse(UnitsArguments, argv, "parley fairness units")
    from ..fairness.population import population_of_corpus
    from ..fairness.units import unit_table, write_units

    if not given.of:
        raise InputError("--of names nothing: give the columns whose values are to be counted.")
    corpus = open_corpus(given.data, given.split, require_text=False)
    population = population_of_corpus(corpus)
    made = unit_table(population, given.column, given.of)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_units(given.out, made)
    remark(
        f"{len(made.units):,} values of {given.column} with {len(made.attributes)} attributes, of "
        f"{len(population.speakers):,} speakers, are in {given.out}"
    )
    return 0
