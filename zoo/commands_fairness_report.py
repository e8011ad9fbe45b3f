"""`parley fairness report`."""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.errors import InputError
from ..data.files import replace_file
from .arguments import parse
from .commands_discover import RESULT
from .console import remark, step_progress

if TYPE_CHECKING:
    from ..fairness.page import Html
    from ..fairness.report_data import Grouping, Systems


@dataclass(frozen=True)
class ReportArguments:
    """What is known of how differently groups of speakers are served, on one page: error rates
    with intervals over speakers, tests, gaps with what chance alone would show, what changed from
    the first system to each other and whom it harmed. Systems are compared on the same utterances:
    each FILE is what parley evaluate --out FILE.jsonl wrote. Beside the page, a JSON file.

    * parley fairness report results.jsonl --by accent gender --out report.html
    * parley fairness report before.jsonl after.jsonl --names before after --by accent \\
        --adjust-for gender --out report.html
    * parley fairness report before.jsonl after.jsonl --cohorts regions --out report.html
    * parley fairness report after.jsonl --cohorts voices --assigned assigned.json \\
        --data my.jsonl --audio --out report.html
    """

    scores: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """Scored utterances; the first is what the others are compared with."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.html")]
    """The page; the JSON has its name."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Of the systems, in their order; else A, B, C, ..."""
    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN...")] = ()
    """Columns of the metadata whose values are groups."""
    cohorts: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """What parley fairness discover wrote. Speakers who found or ranked the cohorts are left out
    of their part of the report."""
    assigned: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """What parley fairness assign wrote: which speaker is of which cohort. For those of voices."""
    adjust_for: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN...")] = ()
    """Columns, of speakers or of recordings, at whose equal values groups are compared too."""
    min_speakers: int = 20
    """Groups of fewer are shown in grey and never ranked."""
    margin: float = 1.0
    """Overall a system may be worse by less than this percentage of the first one's rate."""
    title: str = "Who is served how well"
    data: Annotated[str, tyro.conf.arg(metavar="CORPUS")] = ""
    """Where the recordings of --audio are."""
    split: str = "train"
    """Of an embedded corpus or LibriSpeech; a manifest has none."""
    audio: bool = False
    """Put in what speakers near the centre of the bottom and top clusters say: their voices, for
    everybody who gets the page."""
    with_ids: bool = False
    """Also name files and the speakers of the recordings."""
    seed: int = 0
    """Of intervals and permutations."""
    json: bool = False
    """Also print the JSON."""


def report_command(argv: list[str]) -> int:
    given = parse(ReportArguments, argv, "parley fairness report")
    _check(given)
    from ..fairness.report import report
    from ..fairness.report_data import pair_systems
    from ..fairness.report_groups import Options
    from ..fairness.report_page import report_page
    from ..fairness.scores import read_scores

    names = given.names or [chr(ord("A") + k) for k in range(len(given.scores))]
    steps = len(given.scores) + 2 * (len(given.by) + (given.cohorts is not None)) + 1
    with step_progress("reporting", steps) as advance:
        scores = []
        for path in given.scores:
            scores.append(read_scores(path))
            advance()
        systems = pair_systems(scores, names)
        groupings = _groupings(given, systems)
        options = Options(
            min_speakers=given.min_speakers,
            margin=given.margin / 100,
            adjust_for=given.adjust_for,
            seed=given.seed,
        )
        record = {**_about(given), **report(systems, groupings, options, on_step=advance)}
        from .fairness_plots import figures

        drawn = []
        for found in record["groupings"]:
            drawn.append(figures(record, found))
            advance()
    players = [_players(given, grouping) for grouping in groupings]
    page = report_page(record, figures=drawn, players=players)
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    given.out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(given.out, page)
    replace_file(given.out.with_suffix(".json"), text)
    if given.json:
        print(text, end="")
    remark(f"the report is in {given.out}, its numbers in {given.out.with_suffix('.json')}")
    return 0


def _check(given: ReportArguments) -> None:
    """Raises InputError for options that do not fit together."""
    if not given.scores:
        raise InputError("no scores are given: name what parley evaluate --out FILE.jsonl wrote.")
    if given.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out {given.out} is no page's name: end it in .html.")
    if given.names and len(given.names) != len(given.scores):
        raise InputError(
            f"--names has {len(given.names)} for {len(given.scores)} files: give each file one."
        )
    if len(given.names) > len(set(given.names)) or len(given.by) > len(set(given.by)):
        raise InputError("a name in --names or a column in --by is given twice: give each once.")
    if not given.by and given.cohorts is None:
        raise InputError("nothing to compare by: give --by COLUMN or --cohorts FOLDER.")
    if given.cohorts is None and (given.assigned or given.audio):
        raise InputError("--assigned and --audio go with --cohorts FOLDER: give it.")
    if given.audio and not given.data:
        raise InputError("--audio needs the recordings: name their corpus with --data.")
    if given.min_speakers < 2:
        raise InputError("--min-speakers is the fewest that have an interval: give 2 or more.")
    if not 0 <= given.margin < 100:
        raise InputError(f"--margin {given.margin:g} is no use: give 0 to 100 percent.")


def _about(given: ReportArguments) -> dict[str, Any]:
    from .. import __version__

    about = {
        "title": given.title,
        "version": __version__,
        "made": datetime.date.today().isoformat(),
    }
    return about | ({"files": [path.name for path in given.scores]} if given.with_ids else {})


def _groupings(given: ReportArguments, systems: "Systems") -> "list[Grouping]":
    from ..fairness.report_data import column_grouping

    found = [column_grouping(systems.population, column) for column in given.by]
    return [*found, _cohorts(given, given.cohorts, systems)] if given.cohorts else found


def _cohorts(given: ReportArguments, folder: Path, systems: "Systems") -> "Grouping":
    from ..data.cohorts import read_assignment
    from ..fairness.cohorts import read_choosers, read_cohorts
    from ..fairness.report_data import cohort_grouping

    cohorts, ranking = read_cohorts(folder)
    return cohort_grouping(
        systems.population,
        cohorts,
        ranking,
        assignment=read_assignment(given.assigned) if given.assigned else None,
        choosers=read_choosers(folder),
        examples=_examples(folder),
    )


def _examples(folder: Path) -> dict[str, list[str]]:
    """Speakers nearest to the centres of clusters; none where nobody has written them down."""
    try:
        record = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = record.get("examples") if isinstance(record, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: [str(s) for s in who] for name, who in found.items() if isinstance(who, list)}


def _players(given: ReportArguments, grouping: "Grouping") -> "list[Html]":
    if not given.audio or not grouping.of_cohorts:
        return []
    from ..data.corpus import open_corpus
    from .fairness_audio import players

    if not grouping.examples:
        raise InputError(
            f"{given.cohorts} names no speakers near a centre: --audio is for cohorts of voices, "
            "which parley fairness discover --by embeddings finds."
        )
    corpus = open_corpus(given.data, given.split, require_text=False)
    return players(grouping, corpus, with_ids=given.with_ids)
