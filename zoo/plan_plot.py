"""A picture of plans: where a step's time goes, memory, and weak scaling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .evaluation_plot import check_plot_path, undated
from .experiment_plot import FIGURE_STYLE

# Okabe and Ito's colours.
_COLOURS = {
    "compute": "#0072B2",
    "memory": "#009E73",
    "launch": "#E69F00",
    "collective": "#D55E00",
}
_NAMES = {
    "compute": "arithmetic",
    "memory": "memory",
    "launch": "starting operations",
    "collective": "communication",
}


def write_plan(
    records: Sequence[dict[str, Any]], scaling: Sequence[dict[str, Any]], path: Path
) -> None:
    """Draws plans of `parley plan` beside each other, and weak scaling of the first one.

    Raises InputError as `check_plot_path`.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "plan", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        times, memory, curve = figure.subplots(1, 3)
        labels = [f"{'x'.join(map(str, r['mesh']))}\n{r['audio_seconds']:,.0f} s" for r in records]
        at = range(len(records))
        below = [0.0] * len(records)
        for part, colour in _COLOURS.items():
            heights = [1000 * (r["estimate"] or {}).get(part, 0.0) for r in records]
            times.bar(at, heights, bottom=below, color=colour, label=_NAMES[part])
            below = [a + b for a, b in zip(below, heights, strict=True)]
        times.set(ylabel="ms a step, estimated", xticks=list(at))
        times.legend(
            frameon=False, fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0)
        )
        memory.bar(at, [r["memory"]["total"] / 2**30 for r in records], color="#999999")
        memory.axhline(records[0]["memory"]["capacity"] / 2**30, color="black", linewidth=1)
        memory.set(ylabel="GiB a chip (line: what it has)", xticks=list(at))
        for axes in (times, memory):
            axes.set_xticklabels(labels, fontsize=6)
        if scaling:
            chips = [r["chips"] for r in scaling]
            curve.plot(chips, [100 * r["efficiency"] for r in scaling], "o-", color="#0072B2")
            curve.set_xscale("log", base=2)
            curve.set(xlabel="chips, the same work each", ylabel="efficiency, %", ylim=(0, 105))
        title = f"{records[0]['recipe']} on {records[0]['topology']}: compiled, not run"
        figure.suptitle(title, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))
