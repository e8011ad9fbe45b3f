"""Error rate against cost, a panel for every data set that several models were measured on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import InputError
from .compare import Comparison, Condition
from .evaluation_plot import check_plot_path, undated
from .experiment_plot import FIGURE_STYLE, STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 4


def write_comparison(found: Comparison, path: Path) -> None:
    """Draws the comparison. Raises InputError where no data set has two of the models."""
    check_plot_path(path)
    shared = [c for c in found.conditions if sum(rate is not None for rate in c.rates) > 1]
    shared = shared[:_MOST_PANELS]
    if not shared:
        raise InputError(
            "no two of these models were measured on the same data: there is nothing to draw."
        )
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "comparison", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(1.2 + 4.2 * len(shared), 4.0), layout="constrained")
        for axes, condition in zip(
            figure.subplots(1, len(shared), squeeze=False)[0], shared, strict=True
        ):
            _panel(axes, found, condition)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))


def _panel(axes: "Axes", found: Comparison, condition: Condition) -> None:
    marks = zip(found.facts, condition.rates, STYLES * len(found.facts), strict=False)
    for facts, rate, (colour, mark) in marks:
        cost = facts.gflop_per_s
        if rate is None or cost is None:
            continue
        if rate.low is not None and rate.high is not None:
            axes.vlines(cost, rate.low, rate.high, colors=colour, linewidth=1.5)
        axes.plot(cost, rate.error, mark, color=colour, markersize=8, label=facts.name)
    axes.set_xlabel("GFLOP per second of audio")
    axes.set_ylabel(f"{condition.metric} (%)")
    axes.set_title(f"{condition.data}, {condition.split}".rstrip(", "), fontsize=9)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.25)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
