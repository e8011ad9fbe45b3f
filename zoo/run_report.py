"""One page about a run, in its folder: what it was, how it went, where its time went."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import replace_file
from .experiment_plot import FIGURE_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REPORT, CURVES = "report.md", "curves.svg"
_SHOWN = (
    ("loss", "loss"),
    ("dev/", "error rate, development set"),
    ("learning_rate", "learning rate"),
    ("gradient_norm", "gradient norm"),
    ("audio_seconds_per_second", "seconds of audio a second"),
    ("goodput", "share of time that is training"),
)


def write_run_report(run_dir: Path) -> Path:
    """Writes report.md and curves.svg from metrics.jsonl and recipe.json; returns the report."""
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    facts = json.loads((run_dir / "recipe.json").read_text())
    _draw(records, run_dir / CURVES)
    replace_file(run_dir / REPORT, _page(records, facts, run_dir))
    return run_dir / REPORT


def _page(records: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], run_dir: Path) -> str:
    recipe = facts["recipe"]
    trained = [r for r in records if "loss" in r]
    judged = [r for r in records if any(k.startswith("dev/") for k in r)]
    lines = [f"# {recipe['name']}", "", f"![curves]({CURVES})", ""]
    if trained:
        last = trained[-1]
        lines += [f"Step {last['step']:,} of {recipe['steps']:,}: loss {last['loss']:.4g}"]
        if "goodput" in last:
            lines[-1] += f", {100 * last['goodput']:.0f} % of the time training"
        lines[-1] += "."
    left_out = run_dir / "quarantine.jsonl"
    if left_out.exists():
        count = len(left_out.read_text().splitlines())
        lines += ["", f"{count:,} recordings were left out: {left_out.name}."]
    if judged:
        names = sorted({k for r in judged for k in r if k.startswith("dev/")})
        lines += ["", "| step | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for r in judged:
            values = " | ".join(f"{r[n]:.4f}" if n in r else "" for n in names)
            lines.append(f"| {r['step']:,} | {values} |")
    versions = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    lines += ["", f"Packages: {versions}.", "", "## Recipe", "", "```json"]
    return "\n".join([*lines, json.dumps(recipe, indent=1), "```", ""])


def _draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    import io

    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "run", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(9.6, 4.8), layout="constrained")
        for axes, (prefix, title) in zip(figure.subplots(2, 3).flat, _SHOWN, strict=True):
            _curve(axes, records, prefix)
            axes.set(title=title, xlabel="step")
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    replace_file(path, content.getvalue())


def _curve(axes: "Axes", records: Sequence[Mapping[str, Any]], prefix: str) -> None:
    found = {name for r in records for name in r}
    names = sorted(n for n in found if n == prefix or (prefix[-1] == "/" and n.startswith(prefix)))
    for name in names:
        points = [(r["step"], r[name]) for r in records if name in r]
        axes.plot(*zip(*points, strict=True), linewidth=1, label=name)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=7)
