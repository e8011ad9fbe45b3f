"""Pictures of speaker models: what the adversary weighed, and the DET curves of groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from .evaluation_plot import check_plot_path, undated
from .experiment_plot import FIGURE_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..train.speakers.training import WeighedRecording
    from .verification import Verification

# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def write_weights_plot(
    records: Sequence[Mapping[str, Any]],
    weights: "Sequence[WeighedRecording]",
    path: Path,
    *,
    column: str = "gender",
) -> None:
    """Traces over the steps, and how mean weights of recordings are spread, by group.

    Args:
      records: lines of metrics.jsonl.
      column: of the metadata; recordings without it are one group.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    steps = [r for r in records if "adversary/max_weight" in r]
    x = [r["step"] for r in steps]
    settings: dict[Any, Any] = {"svg.hashsalt": "weights", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6.4, 7.2), layout="constrained")
        top, middle, bottom = figure.subplots(3, 1)
        for name, colour in (("max_weight", COLOURS[1]), ("mean_weight", COLOURS[0])):
            top.plot(x, [r[f"adversary/{name}"] for r in steps], color=colour, label=name)
        top.set_ylabel("weight in a batch")
        top.legend(frameon=False)
        for name, colour in (("effective_share", "#000000"), ("effective_share_given", COLOURS[2])):
            middle.plot(x, [r[f"adversary/{name}"] for r in steps], color=colour, label=name)
        middle.set(ylabel="effective sample size / batch", ylim=(0, 1.05), xlabel="step")
        middle.legend(frameon=False)
        groups: dict[str, list[float]] = {}
        for w in weights:
            groups.setdefault(str(w.metadata.get(column, "all")), []).append(w.weight)
        edges = np.histogram_bin_edges([w.weight for w in weights], bins=40)
        for (value, found), colour in zip(sorted(groups.items()), COLOURS * 9, strict=False):
            label = f"{value}, mean {np.mean(found):.3f}"
            bottom.hist(found, edges.tolist(), histtype="step", color=colour, label=label)
        bottom.set(xlabel="mean weight of a recording", ylabel="recordings")
        bottom.legend(frameon=False)
        figure.savefig(path, dpi=160, metadata=undated(path))


def write_det_plot(
    evaluation: "Verification", title: str, path: Path, *, column: str | None = None
) -> None:
    """The DET curve of all trials and of each group, with the threshold that is common to them.

    Raises InputError where `check_plot_path` refuses the path.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    everything = np.ones(len(evaluation.scores), bool)
    curves = {"all": everything, **(evaluation.members(column) if column else {})}
    settings: dict[Any, Any] = {"svg.hashsalt": "det", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.6, 5.6), layout="constrained")
        axes = figure.subplots()
        colours = ("#000000", *COLOURS[:6], *COLOURS[7:])
        for (name, chosen), colour in zip(curves.items(), colours * 9, strict=False):
            _det(axes, evaluation, name, chosen, colour)
        from scipy.special import ndtri

        ticks = ndtri(np.array(_DET_TICKS))
        labels = [f"{100 * t:g}" for t in _DET_TICKS]
        axes.set_xticks(ticks, labels)
        axes.set_yticks(ticks, labels)
        axes.set(
            xlim=(ticks[0], ticks[-1]),
            ylim=(ticks[0], ticks[-1]),
            xlabel="false matches (%)",
            ylabel="false non-matches (%)",
        )
        axes.axline((0, 0), slope=1, color="#cccccc", linewidth=0.8, zorder=0)
        dots = f"dots: the common threshold {evaluation.threshold:.3f}"
        axes.set_title(f"{fill(title, 70)}\n{dots}", fontsize=9)
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))


def _det(
    axes: "Axes", evaluation: "Verification", name: str, chosen: np.ndarray, colour: str
) -> None:
    from scipy.special import ndtri

    from ..metrics.verification import det_points, equal_error, error_curve, rates_at

    curve = error_curve(evaluation.scores[chosen], evaluation.trials.same[chosen])
    label = f"{name}, EER {100 * equal_error(curve).rate:.2f} %"
    axes.plot(*det_points(curve), color=colour, label=label, linewidth=1.2)
    fmr, fnmr = np.clip(rates_at(curve, evaluation.threshold), _DET_TICKS[0], _DET_TICKS[-1])
    axes.plot(ndtri(fmr), ndtri(fnmr), "o", color=colour, markersize=4)
