"""How fast inference is, and where its time goes.

    python -m parley.benchmarks.inference                        # rnnt-tiny and three more
    python -m parley.benchmarks.inference conv-rnnt-30m --rows 8
    python -m parley.benchmarks.inference rnnt-tiny --sessions 1 16 256 --json
    python -m parley.benchmarks.inference --quick                # seconds, to see that it runs

A batch is sentences of `assistant` of about one length, padded as `parley transcribe` pads them.
Its parts are programs of their own; the whole is the one that `parley transcribe` runs. Streams
advance by one encoder step, all sessions in one program, host included, over a piece of speech.

A model whose card has no result on this data gets random weights and speaks by a timetable: four
tokens a second, evenly, whatever it hears. All else is computed as in the model. Its labels are
about equally likely, so its beam is always full, which is the most that a beam can cost.

The peaks that shares are of, products of float32 matrices and reading of memory, are measured in
the same run. On a shared machine trust the ratios.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import jax

from ..configs import presets
from ..data.corpus import open_corpus
from ..data.errors import InputError
from ..models.cost import LABELS_PER_SECOND, gflop
from ..zoo.console import remark, stdout, table
from ..zoo.package import ModelPackage, read_model
from ..zoo.registry import Entry, find
from ..zoo.runtime import device_name, set_up
from ._inference_measure import (
    PARTS,
    Record,
    machine,
    measure_batch,
    measure_streams,
    neighbours,
    random_package,
)

DEFAULT = ("rnnt-tiny", "conv-rnnt-tiny", "rnnt-30m", "conv-rnnt-30m")
_LARGE = 5e6
"""Parameters from which a batch has 8 rows and not 32."""


class Bar(NamedTuple):
    """What a figure should reach."""

    name: str
    aim: float
    at_most: bool
    form: str
    """How the figure is written."""

    def met(self, value: float) -> bool:
        return value <= self.aim if self.at_most else value >= self.aim


SPEED = Bar("greedy, times real time, models below 5 M", 300, False, "{:,.0f}")
SHARE = Bar("greedy search's share", 0.15, True, "{:.1%}")
OVER_BARE = Bar("encoder over its bare products and scans", 1.3, True, "{:.2f}")
BEAM_RATIO = Bar("beam 4 over greedy, the search alone", 4, True, "{:.1f}")
GAIN = Bar("256 sessions in one step over one by one", 10, False, "{:.1f}")


def bars(record: Record) -> Iterator[tuple[Bar, float]]:
    """The bars that a model has figures for."""
    if record["parameters"] < _LARGE:
        yield SPEED, record["times_real_time"]
    yield SHARE, record["search_share"]
    if record["over_bare"] is not None:
        yield OVER_BARE, record["over_bare"]
    yield BEAM_RATIO, record["beam_ratio"]
    for stream in record["streams"]:
        if stream["sessions"] == 256 and stream["gain"] is not None:
            yield GAIN, stream["gain"]


def show(records: Sequence[Record], about: Record) -> None:
    console = stdout()
    console.print(
        f"{about['date']}, {about['device']}, jax {about['jax']}, float32\n{about['command']}\n"
        f"At its best the device does {about['gflop_per_s']:,.0f} GFLOP/s in a product and reads "
        f"{about['gb_per_s']:,.1f} GB/s.\nBest of {about['runs']} runs; in brackets their median. "
        f"Recordings: {about['data']}.\nRandom weights speak by a timetable, "
        f"{LABELS_PER_SECOND:g} tokens a second (--help says more).\n"
    )
    columns = (*PARTS[:5], "beam 4", PARTS[5])
    rows = table("parts, ms", "weights", "rows", *columns, right=("rows", *columns))
    for r in records:
        cells = (_ms(r["parts_ms"][part]) for part in columns)
        rows.add_row(r["model"], r["weights"], f"{r['rows']}", *cells)
    console.print(rows)
    console.print()
    numbers = ("audio", "tokens/s", "greedy, ms", "beam 4, ms", "RTFx", "beam RTFx", "search")
    numbers += ("beam/greedy", "GFLOP/s", "of peak", "/bare")
    rows = table("whole program", *numbers, right=numbers)
    for r in records:
        rows.add_row(
            r["model"],
            f"{r['seconds']:.0f} s",
            f"{r['tokens_per_s']:.1f}",
            _ms(r["whole_ms"]["greedy"]),
            _ms(r["whole_ms"]["beam 4"]),
            f"{r['times_real_time']:,.0f}",
            f"{r['beam_times_real_time']:,.0f}",
            f"{r['search_share']:.1%}",
            f"{r['beam_ratio']:.1f}",
            f"{r['encoder_gflop_per_s']:,.0f}",
            f"{r['peak_share']:.0%}",
            "-" if r["over_bare"] is None else f"{r['over_bare']:.2f}",
        )
    console.print(rows)
    console.print(
        "RTFx: times real time. search: greedy search's share of front end, encoder and search.\n"
        "beam/greedy: the search alone. GFLOP/s, of the best, and /bare, over its products "
        "and scans alone: the encoder.\n"
    )
    numbers = ("sessions", "a step, ms", "RTFx", "over one by one", "of its bound")
    rows = table("streams", *numbers, "bound by", right=numbers)
    for r in records:
        for s in r["streams"]:
            rows.add_row(
                r["model"],
                f"{s['sessions']}",
                _ms(s["step_ms"]),
                f"{s['times_real_time']:,.0f}",
                "-" if s["gain"] is None else f"{s['gain']:.1f}",
                f"{s['bound_share']:.0%}",
                s["bound"],
            )
    console.print(rows)
    console.print(
        "RTFx is also how many sessions the device keeps up with in steps of so many.\n"
        "Bound: the arithmetic at the product's speed, or weights and states at memory's.\n"
    )
    rows = table("bar", "aim", "model", "measured", "", right=("aim", "measured"))
    for r in records:
        for bar, value in bars(r):
            aim = f"{'at most' if bar.at_most else 'at least'} {bar.form.format(bar.aim)}"
            said = "met" if bar.met(value) else "missed"
            rows.add_row(bar.name, aim, r["model"], bar.form.format(value), said)
    console.print(rows)


def _ms(milliseconds: Record) -> str:
    best, median = milliseconds["best"], milliseconds["median"]
    digits = 0 if best >= 99.5 else 1 if best >= 9.95 else 2
    return f"{best:.{digits}f} ({median:.{digits}f})"


def _package(entry: Entry, data: str) -> tuple[ModelPackage, str]:
    """The model, and what its weights are."""
    source = data.partition("?")[0]
    if entry.folder is not None and any(r.data.partition("?")[0] == source for r in entry.results):
        return read_model(entry.folder), "trained"
    return random_package(presets()[entry.name]), "random"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.inference",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--data", default="assistant", help="the recordings; default: assistant")
    parser.add_argument("--rows", type=int, help="of a batch; 32 for models below 5 M, else 8")
    parser.add_argument("--sessions", type=int, nargs="+", help="default: 1 16 256")
    parser.add_argument("--quick", action="store_true", help="rnnt-tiny, little of it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    runs = 2 if given.quick else 7
    sessions = given.sessions or ([1, 2] if given.quick else [1, 16, 256])
    if min([*sessions, 1 if given.rows is None else given.rows]) < 1:
        parser.error("--rows and --sessions must be above 0")
    try:
        names = given.models or (DEFAULT[:1] if given.quick else DEFAULT)
        entries = [find(name) for name in names]
        corpus = open_corpus(given.data, "test")
    except InputError as error:
        parser.error(str(error))
    set_up()
    remark("what the device reaches")
    reached = machine(runs, size=256 if given.quick else 2048)
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": " ".join([parser.prog, *sys.argv[1:]]),
        "device": device_name(),
        "jax": jax.__version__,
        "data": corpus.name,
        "runs": runs,
        "gflop_per_s": gflop(reached.multiply_adds),
        "gb_per_s": reached.bytes / 1e9,
    }
    records = []
    for entry in entries:
        small = entry.facts.parameters < _LARGE
        audio = neighbours(corpus, given.rows or (32 if small and not given.quick else 8))
        remark(f"{entry.name}: a batch")
        package, weights = _package(entry, given.data)
        batch = measure_batch(package, audio, runs, reached)
        remark(f"{entry.name}: streams")
        streams = measure_streams(package, audio, sessions, runs if small else 3, reached)
        records.append(
            {
                "model": entry.name,
                "weights": weights,
                "parameters": entry.facts.parameters,
                **batch,
                "streams": streams,
            }
        )
    if given.json:
        print(json.dumps({**about, "rows": records}, indent=1))
    else:
        show(records, about)


if __name__ == "__main__":
    main()
