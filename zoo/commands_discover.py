"""`parley fairness discover`."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..data.files import replace_file
from .arguments import parse
from .commands_evaluate import has_splits
from .console import audio_progress, remark
from .decoding import GREEDY, Decoding

if TYPE_CHECKING:
    import numpy as np

    from ..fairness.cohorts import Cohorts
    from ..fairness.describe import Description
    from ..fairness.discovery import Discovery
    from ..fairness.scores import Scores


SCORES, RESULT = "scores.jsonl", "discovery.json"
PIECES = "embeddings"
MAP, RANKING_PLOT = "map.png", "ranking.png"
KINDS = {"regions": "regions", "embeddings": "clusters", "units": "units"}


class _Found(NamedTuple):
    """Cohorts and what was learnt by the way."""

    scores: "Scores"
    """With the speakers' embeddings, where cohorts are of voices."""
    cohorts: "Cohorts"
    notes: dict[str, Any]
    """For the record."""
    measured: "dict[str, np.ndarray]"
    """Numbers of speakers [S]."""


@dataclass(frozen=True)
class DiscoverArguments:
    """Finds the groups of speakers whom a model serves worst. Cohorts are made of a third of the
    speakers, ranked on another third and reported on the last, with the gap that chance alone would
    show beside every gap. The folder then says of any speaker which cohort he is of: see
    parley fairness assign.

    * parley fairness discover rnnt-tiny --data "assistant?speakers=1050&utterances=8&seed=11" \\
        --split train --by accent gender --out by-accent
    * parley fairness discover --scores by-accent/scores.jsonl --by regions --out regions \\
        --min-region-speakers 20 --min-region-words 500
    * parley fairness discover rnnt-tiny --data my.jsonl --by embeddings --clusters 20 --out voices
    * parley fairness discover --scores results.jsonl --by units --units zip.csv --out areas
    """

    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KIND|COLUMN...")]
    """regions: of a map, by the columns longitude and latitude. embeddings: clusters of voices,
    which needs recordings (--data). units: areas by their majority, from --units. Else columns of
    the metadata, which are crossed where there are several."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """For the cohorts, discovery.json, pictures and, where the model is run, scores.jsonl: a
    command that was stopped goes on with it."""
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = ""
    """A name that `parley list` shows, or a model's folder; not needed with --scores."""
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")] = ""
    """words, assistant, librispeech:DIR or a manifest, with ?key=value&... to select from it."""
    split: str = "train"
    """Of an embedded corpus or LibriSpeech; a manifest has none."""
    scores: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """What parley evaluate --out FILE.jsonl wrote, instead of running the model."""
    units: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A table of areas (.csv, .tsv): a column named as the metadata's, for example zip, and one for
    each attribute with its share, 0 to 1; kind:value, such as accent:us and accent:rp, exclude each
    other. parley fairness units makes one of a corpus."""
    min_speakers: int = 20
    """Cohorts of fewer ranking or report speakers are shown in grey and never ranked."""
    share: float = 0.1
    """The bottom is the worst cohorts until they hold this share of the speakers (of the words, by
    regions), the top the best ones."""
    top_k: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """The bottom is the K worst cohorts and the top the K best, instead."""
    rank_by: Literal["shrunken", "lcb"] = "shrunken"
    """Order cohorts by the rate drawn to the mean as far as it is uncertain, or by the lower 95 %
    bound of the rate, which puts those first that are surely bad."""
    max_regions: int = 126
    min_region_speakers: int = 50
    """Discovery speakers of each region, at least."""
    min_region_words: int = 5000
    """Words of them, at least."""
    criterion: Literal["squared_error", "poisson"] = "squared_error"
    """What a split of the map takes away most of."""
    clusters: int = 50
    speaker_model: str = "speaker-tiny"
    """Whose embeddings are clustered."""
    seed: int = 0
    """Of the three splits, clusters, intervals and permutations."""
    json: bool = False
    """Print JSON instead of tables."""
    decoding: Annotated[Decoding, tyro.conf.arg(name="")] = GREEDY


def discover_command(argv: list[str]) -> int:
    given = parse(DiscoverArguments, argv, "parley fairness discover")
    kind = _check(given)
    from ..fairness.scores import THIRDS, split_speakers
    from .discovery_report import print_discovery

    given.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["parley", "fairness", "discover", *argv])
    scores, rejected = _scores(given, command)
    # Values of metadata are found without looking at errors: nobody is needed for it.
    shares = (0.0, 0.5, 0.5) if kind == "columns" else THIRDS
    splits = split_speakers(scores.speakers, seed=given.seed, shares=shares)
    made = discover(given, kind, scores, splits, command)
    if given.json:
        print(json.dumps(made.record, indent=1, ensure_ascii=False))
    else:
        print_discovery(made.found, made.described, made.notes)
        remark(f"cohorts, {RESULT} and pictures are in {given.out}")
    for item in rejected:
        remark(f"left out {item}")
    return 2 if rejected else 0


class Discovered(NamedTuple):
    """What `discover` has found, and written."""

    found: "Discovery"
    cohorts: "Cohorts"
    scores: "Scores"
    described: "dict[str, Description]"
    notes: dict[str, Any]
    record: dict[str, Any]


def discover(
    given: DiscoverArguments, kind: str, scores: "Scores", splits: "np.ndarray", command: str
) -> Discovered:
    """Finds, ranks and describes cohorts; writes definition, record and pictures to `given.out`.

    `splits` [S] says which speakers cohorts are found, ranked and reported on.
    """
    from ..fairness.cohorts import choosers_of, write_choosers, write_cohorts
    from ..fairness.describe import describe
    from ..fairness.discovery import Selection, rank_cohorts
    from ..fairness.regions import Regions
    from ..fairness.scores import REPORT
    from .discovery_plot import write_map, write_ranking

    scores, cohorts, notes, measured = _find(given, kind, scores, splits)
    selection = Selection(
        share=given.share,
        share_of="words" if kind == "regions" else "speakers",
        top_k=given.top_k,
        rank_by=given.rank_by,
        min_speakers=given.min_speakers,
    )
    found = rank_cohorts(scores, cohorts, splits, selection=selection, seed=given.seed)
    index = cohorts.assign(scores.population)
    each = describe(scores, index, len(cohorts.names), measured=measured)
    described = dict(zip(cohorts.names, each, strict=True))
    record = {"command": command, "scores": scores.source, "seed": given.seed, **notes}
    record |= found.as_dict()
    for cohort in record["cohorts"]:
        cohort["description"] = described[cohort["name"]].as_dict()
    replace_file(given.out / RESULT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_cohorts(given.out, cohorts, found.ranking)
    chose = (s for s, split in zip(scores.speakers, splits, strict=True) if split != REPORT)
    write_choosers(given.out, choosers_of(chose))
    write_ranking(found, given.out / RANKING_PLOT)
    if isinstance(cohorts, Regions):
        write_map(found, cohorts, scores.population, given.out / MAP)
    return Discovered(found, cohorts, scores, described, notes, record)


def _check(given: DiscoverArguments) -> str:
    """What kind of cohorts is wanted. Raises InputError for options that do not fit together."""
    if not given.by:
        raise InputError("--by names nothing: give regions, embeddings, units or columns.")
    named = [word for word in given.by if word in KINDS]
    if named and len(given.by) > 1:
        raise InputError(f"--by {named[0]} stands alone: only columns can be crossed.")
    kind = KINDS[named[0]] if named else "columns"
    if not given.scores and not (given.model and given.data):
        raise InputError("nothing to look at: give a model and --data, or --scores FILE.jsonl.")
    if kind == "clusters" and not given.data:
        raise InputError("--by embeddings hears the speakers: name the recordings with --data.")
    if (kind == "units") != (given.units is not None):
        raise InputError("--by units and --units FILE belong together: give both, or neither.")
    if not 0 < given.share <= 0.5:
        raise InputError(f"--share {given.share:g} is no use: give more than 0 and at most 0.5.")
    counts = ("min_speakers", "max_regions", "min_region_speakers", "clusters", "top_k")
    for name in counts:
        value, least = getattr(given, name), 2 if name in ("max_regions", "clusters") else 1
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise InputError(f"--{option} {value} is no use: give {least} or more.")
    _claim(given.out, kind)
    return kind


def _claim(folder: Path, kind: str) -> None:
    """Raises InputError where the folder is a file, or holds cohorts of another kind."""
    from ..fairness.cohorts import DEFINITION, read_cohorts

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give --out a folder.")
    if not (folder / DEFINITION).exists():
        return
    try:
        before = read_cohorts(folder)[0].kind
    except InputError:  # damaged, and about to be made anew
        return
    if before != kind:
        kept = folder / SCORES
        again = f", with --scores {kept} to use what it has heard" if kept.exists() else ""
        raise InputError(f"{folder} holds cohorts of {before}: give another --out{again}.")


def _scores(given: DiscoverArguments, command: str) -> "tuple[Scores, list]":
    """The scores and what could not be used, from a file or by running the model."""
    from ..fairness.scores import read_scores

    if given.scores is not None:
        return read_scores(given.scores), []
    from . import load
    from .conversations import has_turns
    from .scoring import score_into
    from .speakers import SpeakerModel

    model = load(given.model, decoding=given.decoding)
    if isinstance(model, SpeakerModel):
        raise InputError(f"{given.model} tells speakers apart and writes no text: name a model.")
    corpus = open_corpus(given.data, given.split)
    if has_turns(corpus):
        raise InputError(
            f"{given.data} has conversations, whose errors are of several speakers at once: give "
            "recordings of one speaker each."
        )
    total = sum(corpus.utterance(i).duration for i in range(len(corpus)))
    options = {
        "data": given.data,
        "split": given.split if has_splits(given.data) else "",
        "decoding": " ".join(given.decoding.arguments()),
    }
    with audio_progress("recognising", total) as advance:
        rejected = score_into(
            given.out / SCORES, model, corpus, options=options, command=command, on_audio=advance
        )
    return read_scores(given.out / SCORES), rejected


def _find(given: DiscoverArguments, kind: str, scores: "Scores", splits: "np.ndarray") -> _Found:
    """Makes the cohorts of the discovery speakers."""
    from ..fairness.cohorts import column_cohorts
    from ..fairness.scores import DISCOVERY

    chosen = splits == DISCOVERY
    errors, words = (scores.errors * chosen, scores.words * chosen)
    if kind == "regions":
        from ..fairness.regions import coordinates, fit_regions

        regions = fit_regions(
            *coordinates(scores.population),
            errors,
            words,
            max_regions=given.max_regions,
            min_speakers=given.min_region_speakers,
            min_words=given.min_region_words,
            criterion=given.criterion,
        )
        limits = ("max_regions", "min_region_speakers", "min_region_words", "criterion")
        return _Found(scores, regions, {name: getattr(given, name) for name in limits}, {})
    if kind == "units":
        from ..fairness.units import fit_units, read_units

        assert given.units is not None  # checked with the other options
        units, partitions = fit_units(
            read_units(given.units), scores.population, errors, words,
            min_speakers=given.min_speakers,
        )  # fmt: skip
        return _Found(scores, units, {"partitions": [p.as_dict() for p in partitions]}, {})
    if kind == "clusters":
        return _find_clusters(given, scores, chosen)
    columns = column_cohorts(scores.population, given.by)
    return _Found(scores, columns, {"columns": list(given.by)}, {})


def _find_clusters(given: DiscoverArguments, scores: "Scores", chosen: "np.ndarray") -> _Found:
    import numpy as np

    from ..fairness.clusters import MIN_UTTERANCES, RESTARTS, fit_clusters, stability
    from .corpus_embeddings import hear_speakers
    from .speakers import load_speaker_model

    model = load_speaker_model(given.speaker_model)
    corpus = open_corpus(given.data, given.split, require_text=False)
    heard = hear_speakers(model, corpus, scores.speakers, given.out / PIECES)
    population = replace(scores.population, embeddings=heard.embeddings)
    scores = replace(scores, population=population)
    found_by = np.where(chosen[:, None], heard.embeddings, np.nan)
    identity = (given.speaker_model, model.package.fingerprint)
    clusters = fit_clusters(found_by, identity, clusters=given.clusters, seed=given.seed)
    notes = {
        "clusters": given.clusters,
        "restarts": RESTARTS,
        "min_utterances": MIN_UTTERANCES,
        "speaker_model": given.speaker_model,
        "stability": round(stability(clusters, found_by, seed=given.seed), 3),
        "examples": dict(zip(clusters.names, clusters.examples(population, 5), strict=True)),
    }
    return _Found(scores, clusters, notes, {"pitch": heard.pitch})
