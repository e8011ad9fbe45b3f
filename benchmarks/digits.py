"""Real recordings: word error on takes and on speakers that were never trained on.

    python -m parley.benchmarks.digits DIGITS/manifest.jsonl --start scratch
    python -m parley.benchmarks.digits DIGITS/manifest.jsonl --start rnnt-tiny

DIGITS is the Free Spoken Digit Dataset as a manifest with `speaker` and `take`. Strings of 1 to 7
digits are joined on the fly. The protocol: takes 10 to 44 train, 45 to 49 choose nothing but are
watched, 5 to 9 test. Then each speaker is left out in turn: the others' takes 10 to 44 train, and
all his takes test; the recipe is the one of before, so nothing is tuned on him.

Each row is a pair of commands, `parley train` and `parley evaluate`. A finished row is kept in
RUNS/<row>.json and not run again; the table is printed after every row.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..data.corpus import open_corpus
from ..zoo.cards import percent
from ..zoo.console import stdout, table

PRESET = "rnnt-digits-tiny"
JOIN = "join=1-7"


def row(manifest: str, start: str, left_out: str | None, runs: Path, extra: list[str]) -> Path:
    """Trains and evaluates one row, unless its result is there; returns the result's file."""
    others = f"&speaker=!{left_out}" if left_out else ""
    name = f"{start}-{left_out or 'takes'}"
    result = runs / f"{name}.json"
    if result.exists():
        return result
    run_dir = runs / name
    train = f"{manifest}?take=10-44{others}&{JOIN}&draws=4000"
    if start == "scratch":
        begin = ("--init-from", "", "--optimizer.peak-lr", "3e-3")
    else:
        # Synthetic speakers go on beside the real ones: four men are few.
        train += " + words"
        begin = ("--init-from", start)
    test = f"speaker={left_out}" if left_out else "take=5-9"
    test = f"{manifest}?{test}&{JOIN}&draws=400"
    began = time.monotonic()
    _parley(
        *("train", PRESET, "--run-dir", str(run_dir)),
        *("--data.train", train),
        *("--data.dev", f"{manifest}?take=45-49{others}&{JOIN}&draws=100"),
        *begin,
        *extra,
        *(["--resume"] if (run_dir / "checkpoints").exists() else []),
    )
    seconds = time.monotonic() - began
    printed = _parley(
        "evaluate", str(run_dir / "model"), "--data", test, "--by", "speaker", "--json"
    )
    record = {
        "start": start,
        "test": f"speaker {left_out}, left out" if left_out else "takes 5 to 9",
        "left_out": left_out,
        "train_seconds": round(seconds),
        **json.loads(printed),
    }
    result.write_text(json.dumps(record, indent=1) + "\n")
    return result


def _parley(*words: str) -> str:
    print(f"$ parley {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "parley.zoo.cli", *words], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def show(results: list[dict[str, Any]]) -> None:
    """The table, and the mean over the speakers left out."""
    numbers = ("words", "sub", "del", "ins", "train s")
    rows = table("start", "test", "WER (95 % interval)", *numbers, right=numbers)
    for r in results:
        rows.add_row(
            r["start"],
            r["test"],
            # With one speaker there is no interval over speakers.
            percent(r["wer"], r["low"], r["high"]),
            *(f"{r[k]:,}" for k in ("words", "substitutions", "deletions", "insertions")),
            f"{r['train_seconds']:,}",
        )
    console = stdout()
    console.print(rows)
    for start in sorted({r["start"] for r in results}):
        left = [r["wer"] for r in results if r["left_out"] and r["start"] == start]
        if left:
            mean = sum(left) / len(left)
            console.print(f"{start}: mean of {len(left)} speakers left out {mean:.2f} %")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.digits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", help="manifest.jsonl of the recordings")
    parser.add_argument("--start", default="scratch", help="scratch, or a model to start from")
    parser.add_argument("--runs", type=Path, default=Path("runs/digits"))
    parser.add_argument("--only", nargs="*", help="rows: takes, or speakers; all by default")
    given, extra = parser.parse_known_args()
    given.runs.mkdir(parents=True, exist_ok=True)
    corpus = open_corpus(given.manifest)
    speakers = sorted({corpus.utterance(i).speaker for i in range(len(corpus))})
    results = []
    for left_out in (None, *speakers):
        if given.only and (left_out or "takes") not in given.only:
            continue
        result = row(given.manifest, given.start, left_out, given.runs, extra)
        results.append(json.loads(result.read_text()))
        show(results)


if __name__ == "__main__":
    main()
