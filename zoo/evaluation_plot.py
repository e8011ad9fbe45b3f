"""The reliability picture: what confidences promise, what the words keep, and how many there are.

Axes are log-odds: confidences crowd near 1, where 99 % and 99.9 % are as far apart as 90 and 99 %.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.errors import InputError
from ..metrics.calibration import Bin
from .evaluation import Evaluation
from .experiment_plot import FIGURE_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's blue and vermilion, which the colour-blind can tell apart.
_RIGHT, _WRONG = "#0072B2", "#D55E00"
_LOW, _HIGH = 0.01, 0.9999
"""Of both axes, the same in every picture; what lies beyond is drawn at the edge."""
_TICKS = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)


def check_plot_path(path: Path) -> None:
    """Raises InputError for a name that is no picture's, before the work that it is to show."""
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"{path} is no picture's name: end it in {', '.join(_FORMATS)}.")


def write_plot(evaluation: Evaluation, title: str, path: Path) -> None:
    """Draws the reliability diagram over a histogram of right and wrong words.

    Raises:
      InputError: no word was heard, or `check_plot_path` refuses the path.
    """
    check_plot_path(path)
    confidences, right = evaluation.judged()
    if not right:
        raise InputError(f"no words were heard, so there is nothing to draw into {path}.")
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "reliability", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(5.2, 6.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _diagram(upper, evaluation.reliability())
        _histogram(lower, np.array(confidences), np.array(right))
        kind = "calibrated" if evaluation.calibrated else "raw"
        error = f"{100 * evaluation.confidence.error:.1f} %"
        upper.set_title(f"{title}\n{kind} confidence, calibration error {error}", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))


def _diagram(axes: "Axes", bins: list[Bin]) -> None:
    edges = _log_odds([_LOW, _HIGH])
    axes.plot(edges, edges, color="0.6", linewidth=1, linestyle="--")
    x, y = _log_odds([b.confidence for b in bins]), _log_odds([b.right for b in bins])
    low, high = _log_odds([b.low for b in bins]), _log_odds([b.high for b in bins])
    axes.vlines(x, low, high, colors=_RIGHT, linewidth=1.5, clip_on=False)  # none where nan
    # At the edge the share itself is not shown: all words right, or none. An open mark says so.
    inside = np.array([_LOW <= b.right <= _HIGH for b in bins])
    axes.plot(x, y, color=_RIGHT, linewidth=1)
    axes.plot(x[inside], y[inside], "o", color=_RIGHT, clip_on=False)
    axes.plot(x[~inside], y[~inside], "o", color=_RIGHT, markerfacecolor="white", clip_on=False)
    axes.set_ylim(*edges)
    axes.set_yticks(_log_odds(_TICKS), [_percent(t) for t in _TICKS])
    axes.set_ylabel("words that are right (%)")
    words = f"Mark: {min(b.words for b in bins):,} words; open: all of them right, or none."
    notes = f"{words}\nLine: 95 % over speakers. Dashed: as promised."
    axes.annotate(notes, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=8)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def _histogram(axes: "Axes", confidences: np.ndarray, right: np.ndarray) -> None:
    edges = _log_odds([_LOW, _HIGH])
    bars = np.linspace(edges[0], edges[1], 31).tolist()
    at = _log_odds(confidences)
    for part, colour, label in ((at[right], _RIGHT, "right"), (at[~right], _WRONG, "wrong")):
        text = f"{label} ({len(part):,})"
        axes.hist(part, bins=bars, histtype="step", color=colour, label=text, linewidth=1.5)
    # A few wrong words among thousands of right ones would not be seen on a linear scale.
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(*edges)
    axes.set_xticks(_log_odds(_TICKS), [_percent(t) for t in _TICKS])
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("words")
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _log_odds(shares: Sequence[float] | np.ndarray) -> np.ndarray:
    kept = np.clip(np.asarray(shares, np.float64), _LOW, _HIGH)
    return np.log(kept) - np.log1p(-kept)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def undated(path: Path) -> dict[str, None]:
    """Metadata that leave the date out, so that the same words give the same bytes."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})
