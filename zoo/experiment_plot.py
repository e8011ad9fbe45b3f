"""Word error against cost, a mark for every system: what accuracy costs at a glance."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from ..models.cost import gflop
from ..train.experiment import Part
from .experiment_results import Record, Results, encoder_cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""matplotlib's settings of every figure that Parley draws of measurements."""
# Okabe and Ito's colours, which the colour-blind can tell apart; each has a mark of its own too.
STYLES = (
    *(("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")),
    *(("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X")),
)
_LABEL_POINTS = 13.0
"""Least distance between two labels, in points."""


class Point(NamedTuple):
    group: str
    cost: float
    """GFLOP per second of audio, a mean over the seeds."""
    wer: float
    low: float
    high: float
    seeds: Sequence[float]


def points(results: Results, part: Part) -> list[Point]:
    """The part's groups of which a row is done, under the part's first condition."""
    from .experiment_report import groups_shown, pooled

    found = []
    for group, rows in groups_shown(results, part).items():
        pool = pooled(results, rows, part.conditions[0].name)
        if pool is None:
            continue
        records = [r for row in rows if (r := results.done(row)) is not None]
        cost = gflop(mean(_cost(record, part) for record in records))
        found.append(Point(group, cost, pool.wer, *pool.interval, list(pool.rates.values())))
    return found


def _cost(record: Record, part: Part) -> float:
    encoder = encoder_cost(record, part.conditions[0].name)
    if part.plot == "encoder":
        return encoder
    return record["cost"]["total"] - record["cost"]["encoder"] + encoder


def write_plot(results: Results, part: Part, path: Path) -> bool:
    """Writes an SVG, the same bytes for the same results; False with fewer than two systems."""
    shown = points(results, part)
    if len(shown) < 2:
        return False
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.hashsalt": results.experiment.name,
        "svg.fonttype": "none",
        **FIGURE_STYLE,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for point, (colour, mark) in zip(shown, STYLES * len(shown), strict=False):
            axes.vlines(point.cost, point.low, point.high, colors=colour, linewidth=1.5)
            axes.plot(point.cost, point.wer, mark, color=colour, markersize=8)
            dots = [point.cost] * len(point.seeds)
            axes.plot(dots, point.seeds, "_", color=colour, markersize=9, alpha=0.7)
        of = "encoder: " if part.plot == "encoder" else ""
        axes.set_xlabel(f"{of}GFLOP per second of audio")
        axes.set_ylabel(f"WER (%), {part.conditions[0].name}")
        axes.set_title("Mark: mean. Line: 95 % over speakers. Dashes: seeds.", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.18)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        figure.draw_without_rendering()  # fixes the layout that the labels are placed in
        _label(axes, shown, 72 / figure.dpi)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    return True


def _label(axes: "Axes", shown: Sequence[Point], scale: float) -> None:
    """Names beside the marks, moved up where two would lie on each other.

    `scale` is points a pixel.
    """
    placed: list[tuple[float, float]] = []
    colours = dict(zip((p.group for p in shown), STYLES * len(shown), strict=False))
    for point in sorted(shown, key=lambda p: p.wer):
        x, y = (scale * v for v in axes.transData.transform((point.cost, point.wer)))
        top = y
        while any(abs(x - a) < 90 and abs(top - b) < _LABEL_POINTS for a, b in placed):
            top += 1.0
        placed.append((x, top))
        axes.annotate(
            point.group,
            (point.cost, point.wer),
            xytext=(9, top - y),
            textcoords="offset points",
            va="center",
            color=colours[point.group][0],
        )
