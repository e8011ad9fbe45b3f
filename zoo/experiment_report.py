"""An experiment's page in docs/results: tables and a plot, from the results file alone.

The page is renewed between its marks after every row; what a person wrote around them stays. Rows
that are not done are in the tables too, and say `not run`.
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean
from typing import NamedTuple

from ..data.files import replace_file
from ..metrics.bootstrap import paired_speaker_bootstrap, speaker_bootstrap
from ..models.cost import gflop
from ..train.experiment import Condition, Part, Row
from ..train.speakers.recipe import SpeakerRecipe
from .cards import percent
from .experiment_results import Record, Results, encoder_cost
from .markdown import block, markdown_table, replace_block
from .repair_report import cohort_tables
from .verification_report import INTERVALS, speaker_part

_INTERVALS = """\
Rates are means over the seeds that are done. In brackets: 95 % intervals of a bootstrap over
speakers (of conversations: over recordings), drawn with the errors of all seeds; how far training
seeds scatter shows in the rates of the single seeds. Differences are in points of word error, below
zero where the system is better, paired by speaker and seed."""


_TURN_COLUMNS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("turn_count", ("exact",), "{:.1f} %"),
    ("turn_count", ("bias",), "{:+.1f} %"),
    ("start_latency", ("p50", "p90"), "{:.2f} s"),
    ("end_latency", ("p50", "p90"), "{:.2f} s"),
    ("end_latency", ("miss",), "{:.1f} %"),
    ("end_latency", ("early",), "{:.1f} %"),
    ("end_latency", ("false_alarm",), "{:.1f} %"),
)


class Pooled(NamedTuple):
    """The finished seeds of a group under one condition: an entry a seed and speaker."""

    rates: dict[int, float]
    """seed -> WER in percent."""
    errors: dict[tuple[int, str], int]
    words: dict[tuple[int, str], int]

    @property
    def wer(self) -> float:
        return mean(self.rates.values())

    @property
    def interval(self) -> tuple[float, float]:
        """Percents."""
        speakers = [speaker for _, speaker in self.errors]
        errors, words = list(self.errors.values()), list(self.words.values())
        low, high = speaker_bootstrap(errors, words, speakers)
        return 100 * low, 100 * high


class Difference(NamedTuple):
    """System minus baseline, in points."""

    mean: float
    low: float
    high: float
    seeds: list[float]


def pooled(results: Results, rows: Sequence[Row], condition: str) -> Pooled | None:
    """None where no row of the group is done."""
    pool = Pooled({}, {}, {})
    for row in rows:
        record = results.done(row)
        found = record["evaluations"].get(condition) if record else None
        if found is None:
            continue
        pool.rates[row.seed] = found["wer"]
        for speaker, (errors, words) in found["speakers"].items():
            pool.errors[row.seed, speaker] = errors
            pool.words[row.seed, speaker] = words
    return pool if pool.rates else None


def difference(system: Pooled, baseline: Pooled) -> Difference | None:
    """Over the seeds that both have; None without such, or where they heard other speech."""
    seeds = sorted(system.rates.keys() & baseline.rates.keys())
    keys = [key for key in system.errors if key[0] in seeds]
    theirs = {key for key in baseline.errors if key[0] in seeds}
    if not seeds or set(keys) != theirs:
        return None
    if any(system.words[key] != baseline.words[key] for key in keys):
        return None
    low, high = paired_speaker_bootstrap(
        [system.errors[key] for key in keys],
        [baseline.errors[key] for key in keys],
        [system.words[key] for key in keys],
        [speaker for _, speaker in keys],
    )
    each = [system.rates[seed] - baseline.rates[seed] for seed in seeds]
    return Difference(mean(each), 100 * low, 100 * high, each)


def write_report(results: Results) -> None:
    """Writes `<name>.md` beside the results file, and the plots that it shows."""
    from .experiment_plot import write_plot

    experiment = results.experiment
    path = results.path.with_suffix(".md")
    speakers = all(isinstance(row.recipe, SpeakerRecipe) for row in experiment.rows)
    sections = [_header(results), INTERVALS if speakers else _INTERVALS]
    for part in experiment.parts:
        sections.append(_part(results, part))
        if part.plot:
            picture = results.path.with_suffix(".svg")
            if write_plot(results, part, picture):
                sections.append(f"![Word error rate against cost]({picture.name})")
    sections += _failures(results)
    content = "\n\n".join(sections)
    if path.exists():
        text = replace_block(path.read_text(encoding="utf-8"), "results", content)
    else:
        text = f"# {experiment.title}\n\n{experiment.question}\n\n{block('results', content)}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text)


def groups_shown(results: Results, part: Part) -> dict[str, list[Row]]:
    """The part's groups, after the baseline where that is another part's."""
    groups = part.groups
    if part.baseline and part.baseline not in groups:
        baseline = [row for row in results.experiment.rows if row.group == part.baseline]
        return {part.baseline: baseline, **groups}
    return groups


def _header(results: Results) -> str:
    experiment = results.experiment
    finished = results.rows("done")
    records = [results.records[row.name] for row in finished]
    counts = {state: len(results.rows(state)) for state in ("done", "failed", "not run")}
    hours = sum(r["train_seconds"] for r in records) / 3600
    lines = [
        f"- command: `{_command(results)}`",
        "- rows: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n),
    ]
    if records:
        devices = ", ".join(sorted({r["device"] for r in records}))
        dates = sorted({r["date"] for r in records})
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        lines += [f"- device: {devices}", f"- date: {span}", f"- training so far: {hours:.1f} h"]
    budgets = dict.fromkeys(_budget(row) for part in experiment.parts for row in part.rows)
    lines.append(f"- budget of a row: {'; '.join(budgets)}")
    return "\n".join(lines)


def _command(results: Results) -> str:
    digits = " --digits PATH/manifest.jsonl" if results.experiment.needs_digits else ""
    return f"parley experiment {results.experiment.name}{digits}"


def _budget(row: Row) -> str:
    recipe = row.recipe
    return f"{recipe.steps:,} steps of {recipe.data.batch_seconds:g} s of audio"


def _part(results: Results, part: Part) -> str:
    sections = [f"## {part.title}", part.text]
    if all(isinstance(row.recipe, SpeakerRecipe) for row in part.rows):
        return "\n\n".join([*sections, speaker_part(results, part, groups_shown(results, part))])
    for condition in part.conditions:
        spec = f"`{condition.data}`, {condition.split}"
        sections.append(f"### {part.title}: {condition.name} ({spec})")
        sections.append(_rates(results, part, condition))
        sections.append(_turns(results, part, condition))
    sections += _cohorts(results, part)
    if thetas := _thetas(results, part):
        sections += [f"### {part.title}: theta moved after training", thetas]
    sections.append(f"### {part.title}: models and training")
    sections.append(_models(results, part))
    return "\n\n".join(filter(None, sections))


def _rates(results: Results, part: Part, condition: Condition) -> str:
    groups = groups_shown(results, part)
    several = any(len(rows) > 1 for rows in groups.values())
    head = ["system", "WER", *(["each seed"] if several else [])]
    baseline = None
    if part.baseline:
        baseline = pooled(results, groups[part.baseline], condition.name)
        head.append(f"against {part.baseline}")
        head += ["each seed"] if several else []
    dense = _dense_cost(results, condition.name) if part.baseline else None
    if dense:
        head += ["in proportion", "encoder computes", "on speech"]
    table: list[list[str]] = []
    for group, rows in groups.items():
        pool = pooled(results, rows, condition.name)
        line = [group, _interval(pool.wer, *pool.interval) if pool else _why_not(results, rows)]
        if several:
            line.append(" / ".join(_seed(results, row, condition) for row in rows))
        if part.baseline:
            found = difference(pool, baseline) if pool and baseline else None
            found = None if group == part.baseline else found
            if found is None:
                line += ["", ""] if several else [""]
            else:
                line.append(_points(found))
                line += [" / ".join(f"{x:+.2f}" for x in found.seeds)] if several else []
            if dense:
                line += _spent(results, rows, condition.name, dense, found, baseline)
        table.append(line)
    return markdown_table(head, table)


def _dense_cost(results: Results, condition: str) -> float | None:
    """Multiply-adds of the dense encoder that amortized ones are held to; None without such."""
    for row in results.rows("done"):
        compute = results.records[row.name].get("compute", {"conditions": {}})
        if condition in compute["conditions"]:
            return compute["conditions"][condition]["dense"]
    return None


def _spent(
    results: Results,
    rows: Sequence[Row],
    condition: str,
    dense: float,
    found: Difference | None,
    baseline: Pooled | None,
) -> list[str]:
    """Errors in proportion to the baseline's, and what share of the dense encoder is computed."""
    records = [r for row in rows if (r := results.done(row)) is not None]
    if not records:
        return ["", "", ""]
    relative = ""
    if found and baseline:
        change, low, high = (100 * x / baseline.wer for x in found[:3])
        relative = f"{change:+.1f} % ({low:+.1f} to {high:+.1f})"
    spent = mean(encoder_cost(r, condition) for r in records) / dense
    gated = [r["compute"]["conditions"][condition] for r in records if "compute" in r]
    on_speech = f"{mean(g['speech_ratio'] for g in gated):.3f}" if gated else ""
    return [relative, f"{spent:.3f}", on_speech]


def _turns(results: Results, part: Part, condition: Condition) -> str:
    """How turns were counted and when their starts and ends were told, as means over seeds; empty
    where no row has heard conversations."""
    head = ["system", "turns counted right", "bias", "start: P50, P90", "end: P50, P90"]
    head += ["ends missed", "early", "false alarms"]
    table: list[list[str]] = []
    for group, rows in groups_shown(results, part).items():
        records = [r for row in rows if (r := results.done(row)) is not None]
        found = [r["evaluations"].get(condition.name, {}).get("turns") for r in records]
        found = [turns for turns in found if turns is not None]
        if not found:
            continue

        line = [group]
        for part_of, keys, form in _TURN_COLUMNS:
            values = [_mean_of([turns[part_of][key] for turns in found]) for key in keys]
            line.append(", ".join("-" if v is None else form.format(v) for v in values))
        table.append(line)
    return markdown_table(head, table) if table else ""


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def _cohorts(results: Results, part: Part) -> list[str]:
    """What became of the cohorts that the part's rows were to serve better."""
    baseline = [row for row in results.experiment.rows if row.group == part.baseline]
    found = []
    for kind in dict.fromkeys(row.cohorts.kind for row in part.rows if row.cohorts):
        if tables := cohort_tables(results, groups_shown(results, part), baseline, kind):
            found += [f"### {part.title}: {kind} before and after", tables]
    return found


def _thetas(results: Results, part: Part) -> str:
    """What another theta makes of a trained model; empty where no row has gates."""
    table = []
    for row in part.rows:
        record = results.done(row)
        if record is None or "thetas" not in record.get("compute", {}):
            continue
        name = part.conditions[0].name
        trained = {
            "theta": record["compute"]["conditions"][name]["theta"],
            "wer": record["evaluations"][name]["wer"],
            "ratio": record["compute"]["conditions"][name]["ratio"],
        }
        found = sorted([trained, *record["compute"]["thetas"]], key=lambda at: at["theta"])
        shown = [f"{a['wer']:.2f} % at {a['ratio']:.3f} ({a['theta']:g})" for a in found]
        table.append([row.name, ", ".join(shown)])
    if not table:
        return ""
    return markdown_table(["row", "WER at the encoder's share of computation (theta)"], table)


def _interval(wer: float, low: float, high: float) -> str:
    return percent(wer, *((None, None) if math.isnan(low) else (low, high)))


def _points(found: Difference) -> str:
    interval = "" if math.isnan(found.low) else f" ({found.low:+.2f} to {found.high:+.2f})"
    return f"{found.mean:+.2f}{interval}"


def _seed(results: Results, row: Row, condition: Condition) -> str:
    record = results.done(row)
    if record is None:
        return results.state(row)
    found = record["evaluations"].get(condition.name)
    return f"{found['wer']:.2f}" if found else "not run"


def _why_not(results: Results, rows: Sequence[Row]) -> str:
    return "failed" if all(results.state(row) == "failed" for row in rows) else "not run"


def _models(results: Results, part: Part) -> str:
    columns: list[tuple[str, Callable[[Record], str]]] = [
        ("parameters", lambda r: f"{r['parameters']:,}"),
        ("of the encoder", lambda r: f"{r['encoder_parameters']:,}"),
        ("GFLOP / s of audio", lambda r: f"{gflop(r['cost']['total']):.3g}"),
        ("its encoder", lambda r: f"{gflop(r['cost']['encoder']):.3g}"),
        ("state of a stream", lambda r: _or_none(r["state_bytes"], _kib)),
        ("receptive field", lambda r: _or_none(r["receptive_field_s"], "{:.2f} s".format, "all")),
        ("streaming", lambda r: _or_none(r["stream_speed"], "{:,.0f} x real time".format)),
    ]
    over_seeds: list[tuple[str, Callable[[Record], float | None], str]] = [
        ("training", lambda r: r["train_seconds"] / 60 or None, "{:.1f} min"),
        ("audio seen", lambda r: r["audio_hours"] or None, "{:.1f} h"),
        ("dev WER", lambda r: r["dev_wer"], "{:.2f} %"),
    ]
    head = ["system", "peak rate", *(n for n, _ in columns), *(n for n, _, _ in over_seeds)]
    table: list[list[str]] = []
    for group, rows in part.groups.items():
        rate = f"{rows[0].recipe.optimizer.peak_lr:g}"
        records = [r for row in rows if (r := results.done(row)) is not None]
        if not records:
            blank = [""] * (len(head) - 3)
            table.append([group, rate, _why_not(results, rows), *blank])
            continue
        line = [group, rate, *(show(records[0]) for _, show in columns)]
        for _, value, form in over_seeds:
            values = [x for r in records if (x := value(r)) is not None]
            line.append(form.format(mean(values)) if values else "")
        table.append(line)
    return markdown_table(head, table)


def _or_none(value: float | None, show: Callable[[float], str], none: str = "cannot stream") -> str:
    return none if value is None else show(value)


def _kib(count: float) -> str:
    return f"{count / 1024:,.0f} KiB"


def _failures(results: Results) -> list[str]:
    failed = results.rows("failed")
    if not failed:
        return []
    lines = [f"- {row.name}: {results.records[row.name]['reason']}" for row in failed]
    again = f"`{_command(results)} --retry` tries them again."
    return ["## Failed rows", "\n".join(lines), again]
