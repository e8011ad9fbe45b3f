"""`parley merge`: the files that many processes wrote become one, in any format."""

import glob
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ..data.errors import InputError
from .arguments import parse
from .console import remark
from .formats import Format, Record
from .results import Run, destination, hash_ids, read_lines, read_run, rejected_path


@dataclass(frozen=True)
class MergeArguments:
    """Results of several processes into one file, or results into another format.

    All must come from one model with the same options, nothing may be there twice, and the files of
    all processes must be there and complete; else nothing is written, and what is missing is said.

    * parley merge "results.*-of-*.jsonl" --out results.jsonl
    * parley merge results.jsonl --out results.ctm
    * parley merge results.jsonl --out captions/ --format srt
    """

    results: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RESULTS...")]
    """Files that `parley transcribe --out FILE.jsonl` wrote, or a quoted pattern."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE|FOLDER/")]
    """.jsonl, .ctm or .txt for one file; a folder for a file of each recording."""
    format: Format = "text"
    """Of the files in a folder."""


def merge_command(argv: list[str]) -> int:
    given = parse(MergeArguments, argv, "parley merge")
    files = _files(given.results)
    if not files:
        raise InputError("no results are given: name the .jsonl files that transcribe wrote.")
    done, rejected = merge(
        files, given.out, given.format, command=shlex.join(["parley", "merge", *argv])
    )
    remark(
        f"{done:,} results of {len(files)} file{'s' * (len(files) > 1)} are in {given.out}"
        + (f"; {rejected:,} recordings could not be used" if rejected else "")
    )
    return 0


def merge(
    files: Sequence[Path], out: str, form: Format = "text", *, command: str = ""
) -> tuple[int, int]:
    """Checks the files and writes their results to `out`; returns how many, and how many rejects.

    Raises:
      InputError: see `MergeArguments`; and where `out` is there already.
    """
    if Path(out).is_file() and Path(out).stat().st_size:
        raise InputError(f"{out} exists already: remove it, or give another --out.")
    runs = {path: read_run(path) for path in files}
    first = runs[files[0]]
    for path, run in runs.items():
        if conflict := first.conflict(run):
            raise InputError(f"{path} {conflict} as {files[0]}: merge them apart.")
    owners: dict[str, Path] = {}
    rejected: set[str] = set()
    counts: dict[Path, int] = {}
    for path in files:
        refused = set(_rejects(path))
        rejected |= refused
        counts[path] = len(refused)
        for record, _ in read_lines(path):
            id = record["id"]
            if id in owners:
                twice = path if owners[id] == path else f"{owners[id]} and in {path}"
                raise InputError(f"{id} is more than once in {twice}: merge only one of them.")
            owners[id] = path
            counts[path] += id not in refused
    rejected -= owners.keys()
    _complete(runs, counts)
    ids = [*owners, *rejected]
    run = replace(first, input=hash_ids(ids), items=len(ids), process=(0, 1), command=command)
    sink = destination(out, form, run, list(owners), resume=False, several=True)
    try:
        for path in files:
            for record, _ in read_lines(path):
                sink.add(record)
            for id, record in _rejects(path).items():
                if id in rejected:
                    where = record.get("audio_filepath", "")
                    sink.rejects.add(id, str(record.get("reason", "")), path=where)
        sink.close()
    except BaseException:
        sink.remove()  # half a merge looks like a whole one
        raise
    return len(owners), len(rejected)


def _files(given: Sequence[str]) -> list[Path]:
    """Every file once; lists of rejects, which a pattern meets too, are found by the results."""
    found: dict[Path, None] = {}
    for text in given:
        path = Path(text).expanduser()
        matches = [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path)))]
        if not matches:
            raise InputError(f"{text}: no such results; check the path.")
        found.update(dict.fromkeys(p for p in matches if not p.name.endswith(".rejected.jsonl")))
    return list(found)


def _rejects(path: Path) -> dict[str, Record]:
    """By id, of the results at `path`."""
    beside = rejected_path(path)
    lines = read_lines(beside) if beside.exists() else ()
    return {record["id"]: record for record, _ in lines}


def _complete(runs: dict[Path, Run], counts: dict[Path, int]) -> None:
    """Raises InputError where a process, or something that it was to do, is missing."""
    groups: dict[tuple[str, int], set[int]] = defaultdict(set)
    for run in runs.values():
        groups[run.input, run.process[1]].add(run.process[0])
    for (_, count), there in groups.items():
        missing = sorted(set(range(count)) - there)
        if missing:
            raise InputError(
                f"of {count} processes that were given the same recordings, there are no results "
                f"of process {', '.join(map(str, missing))}: name that file too, or run the "
                "process again with the same inputs and --resume."
            )
    for path, run in runs.items():
        if counts[path] < run.items:
            raise InputError(
                f"{path} has {counts[path]:,} of its {run.items:,} recordings: run that process "
                "again with --resume, and then merge."
            )
