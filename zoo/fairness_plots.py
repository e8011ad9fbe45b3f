"""Pictures of a fairness report: rates, gaps before and after, the funnel and the map.

Drawn from the report's record alone. Names come from strangers: nothing in them is a formula.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fairness.page import Figure, clean
from .discovery_plot import draw_boxes
from .experiment_plot import FIGURE_STYLE
from .weights_plot import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Record = Mapping[str, Any]

_MARKS = "os^Dv"
_GREY = "0.6"
_MOST_ROWS = 60
_MOST_LABEL = 28


def figures(record: Record, grouping: Record) -> list[Figure]:
    """Of a grouping; those that it has something for."""
    found = [_forest(record, grouping)]
    if grouping["ranked"] > 1:
        if len(record["systems"]) > 1:
            found.append(_before_after(record, grouping))
        found.append(_funnel(record, grouping))
    if any("box" in group for group in grouping["groups"]):
        found.append(_map(record, grouping))
    return found


def _draw(size: tuple[float, float], draw: "Callable[[Canvas], None]") -> bytes:
    """An SVG, the same bytes for the same record."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    settings: dict[Any, Any] = {
        "svg.hashsalt": "fairness",
        "svg.fonttype": "none",
        "text.parse_math": False,
        **FIGURE_STYLE,
    }
    made = io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's fonts have what matplotlib's lack, for the letters stay letters.
        warnings.filterwarnings("ignore", message="Glyph")
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(made, format="svg", metadata=nothing)
    text = made.getvalue()
    return text[text.index(b"<svg") :]


def _forest(record: Record, grouping: Record) -> Figure:
    """Every group's rate in every system, with its interval."""
    groups = grouping["groups"]
    shown = groups
    if len(groups) > _MOST_ROWS:
        shown = [*groups[: _MOST_ROWS // 2], *groups[-_MOST_ROWS // 2 :]]
    systems = [clean(n) for n in record["systems"]]

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        for k, name in enumerate(systems):
            y = np.arange(len(shown)) + 0.5 * (k + 0.5) / len(systems) - 0.25
            for at, group in zip(y.tolist(), shown, strict=True):
                rate = group["systems"][k]
                colour = _GREY if group["rank"] is None else COLOURS[k % len(COLOURS)]
                if rate["wer_low"] is not None:
                    axes.hlines(at, rate["wer_low"], rate["wer_high"], colors=colour, linewidth=1.5)
                if rate["wer"] is not None:
                    axes.plot(rate["wer"], at, _MARKS[k % 5], color=colour, markersize=5)
            colour = COLOURS[k % len(COLOURS)]
            overall = record["overall"][k]["wer"]
            axes.axvline(overall, color=colour, linewidth=1, linestyle="--")
            axes.plot([], [], _MARKS[k % 5], color=colour, label=f"{name} (all: {overall:.2f} %)")
        labels = [clean(g["name"], _MOST_LABEL) for g in shown]
        axes.set_yticks(range(len(shown)), labels, fontsize=8)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("WER (%), 95 % over speakers")
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        canvas.legend(loc="outside upper left", frameon=False, fontsize=9)

    caption = "Word error rates with intervals; dashed: all speakers. Grey: too few speakers."
    if len(shown) < len(groups):
        caption += f" Of {len(groups)} groups the first and the last {_MOST_ROWS // 2} are drawn."
    height = 1.4 + 0.3 * len(shown) * (0.7 + 0.3 * len(systems))
    return Figure(_draw((7.0, min(height, 40.0)), draw), _in_words(record, grouping), caption)


def _in_words(record: Record, grouping: Record) -> str:
    """What the forest shows, for who cannot see it."""
    parts = [
        f"{clean(group['name'])} {' and '.join(_percent(s['wer']) for s in group['systems'])}"
        for group in grouping["groups"][:12]
    ]
    systems = " and ".join(clean(n) for n in record["systems"])
    more = ", and others" if len(grouping["groups"]) > 12 else ""
    return f"Word error rates by {clean(grouping['name'])} of {systems}: {', '.join(parts)}{more}."


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} %"


def _before_after(record: Record, grouping: Record) -> Figure:
    """The ranked groups' rates from system to system; bottom and top stand out."""
    ranked = [g for g in grouping["groups"] if g["rank"] is not None]
    systems = [clean(n, _MOST_LABEL) for n in record["systems"]]
    styles = {"bottom": (COLOURS[1], 2.0), "top": (COLOURS[0], 2.0)}

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        x = np.arange(len(systems))
        labels: list[tuple[float, str, str]] = []
        for group in sorted(ranked, key=lambda g: g["role"] in styles):
            colour, width = styles.get(group["role"], (_GREY, 1.0))
            y = [s["wer"] for s in group["systems"]]
            axes.plot(x, y, "o-", color=colour, linewidth=width, markersize=4)
            if group["role"] in styles and None not in y:
                labels.append((y[-1], clean(group["name"], _MOST_LABEL), colour))
        _spaced_labels(axes, float(x[-1]), labels)
        axes.set_xticks(x, systems)
        axes.set_xlim(-0.3, x[-1] + 0.9)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("WER (%)")
        axes.grid(axis="y", color="0.92")
        axes.set_axisbelow(True)

    gaps = [
        f"{name} {s['bottom_top']['points']['value']:.2f} points"
        for name, s in zip(systems, grouping["systems"], strict=True)
        if "bottom_top" in s
    ]
    alt = f"The gap from bottom to top by {clean(grouping['name'])}: {', '.join(gaps)}."
    caption = "Ranked groups from system to system. Vermilion: bottom. Blue: top."
    return Figure(_draw((6.4, 4.2), draw), alt, caption)


def _spaced_labels(axes: "Axes", x: float, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names beside the ends of lines, of few lines only."""
    if len(labels) > 8:
        return
    ordered = sorted(labels)
    high = max((y for y, _, _ in ordered), default=1.0)
    last = -np.inf
    for y, name, colour in ordered:
        last = max(y, last + 0.05 * high)
        axes.annotate(name, (x, y), xytext=(x + 0.06, last), color=colour, va="center", fontsize=8)


def _funnel(record: Record, grouping: Record) -> Figure:
    """The first system's rates against words, with what chance would keep them in."""
    expected = grouping["funnel"]
    rate, differ = expected["wer"] / 100, expected["speakers_differ"] / 100
    each = expected["words_per_speaker"]
    groups = [g for g in grouping["groups"] if g["words"] and g["systems"][0]["wer"] is not None]

    def error(words: np.ndarray) -> np.ndarray:
        return np.sqrt((rate + (differ * rate) ** 2 * each) / words)

    words = np.array([g["words"] for g in groups], np.float64)
    rates = np.array([g["systems"][0]["wer"] for g in groups])
    ranked = np.array([g["rank"] is not None for g in groups])
    beyond = np.abs(rates - 100 * rate) > 100 * 3.09 * error(words)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        x = np.geomspace(0.7 * words.min(), 1.4 * words.max(), 200)
        for z, style, label in ((1.96, "--", "95 %"), (3.09, ":", "99.8 %")):
            for sign in (-1, 1):
                y = 100 * np.maximum(rate + sign * z * error(x), 0)
                axes.plot(x, y, style, color="0.4", linewidth=1, label=label if sign > 0 else None)
        axes.axhline(100 * rate, color="0.4", linewidth=1)
        axes.plot(words[ranked], rates[ranked], "o", color=COLOURS[0], markersize=5)
        axes.plot(words[~ranked], rates[~ranked], "o", color=_GREY, markersize=5, fillstyle="none")
        for i in np.flatnonzero(beyond & ranked)[:10]:
            name = clean(groups[i]["name"], _MOST_LABEL)
            axes.annotate(
                name, (words[i], rates[i]), xytext=(6, 4), textcoords="offset points", fontsize=8
            )
        axes.set_xscale("log")
        # Plain numbers: powers of ten would be formulas.
        ticks = [t for d in range(9) for t in (10**d, 3 * 10**d) if x[0] <= t <= x[-1]]
        ticks = ticks if len(ticks) > 1 else sorted({int(words.min()), int(words.max())})
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("words of the group (log scale)")
        axes.set_ylabel("WER (%)")
        axes.legend(frameon=False, fontsize=9, title="of equal groups")

    outside = [clean(groups[i]["name"]) for i in np.flatnonzero(beyond & ranked)[:10]]
    alt = (
        f"Funnel of {len(groups)} groups around {100 * rate:.2f} %; outside the 99.8 % limits: "
        f"{', '.join(outside) or 'no ranked group'}."
    )
    first = clean(record["systems"][0])
    caption = (
        f"{first}: WER against words. Between the lines would lie 95 and 99.8 % of groups that do "
        "not differ, of speakers who do. Open: too few speakers."
    )
    return Figure(_draw((6.4, 4.4), draw), alt, caption)


def _map(record: Record, grouping: Record) -> Figure:
    """Regions, coloured by the first system's shrunken rates. Nobody's place is drawn."""
    groups = [g for g in grouping["groups"] if "box" in g]
    ends = [-np.inf, np.inf, -np.inf, np.inf]
    boxes = np.array(
        [[e if x is None else x for x, e in zip(g["box"], ends, strict=True)] for g in groups]
    )
    x, y = _sides(boxes[:, :2]), _sides(boxes[:, 2:])

    def draw(canvas: "Canvas") -> None:
        axes = canvas.subplots()
        axes.set(xlim=x, ylim=y, xlabel="longitude (°)", ylabel="latitude (°)")
        colours = draw_boxes(axes, boxes, [g["shrunken"] for g in groups])
        canvas.colorbar(colours, ax=axes, label="WER (%), shrunken")
        for group, (west, east, south, north) in zip(groups, boxes, strict=True):
            if group["rank"] is not None:
                at = np.clip([west, east], *x).mean(), np.clip([south, north], *y).mean()
                box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "linewidth": 0.4}
                axes.text(*at, str(group["rank"]), fontsize=7, ha="center", va="center", bbox=box)

    worst = ", ".join(clean(g["name"]) for g in groups if g["rank"] in (1, 2, 3))
    alt = f"Map of {len(groups)} regions by longitude and latitude; worst: {worst or 'unknown'}."
    caption = (
        f"{clean(record['systems'][0])}: shrunken WER of the regions. Number: rank, 1 the worst. "
        "Grey: too few speakers."
    )
    return Figure(_draw((7.0, 5.6), draw), alt, caption)


def _sides(edges: np.ndarray) -> tuple[float, float]:
    """From the lowest to the highest edge that there is, with room for regions without one."""
    finite = edges[np.isfinite(edges)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 1.0)
    margin = 0.25 * max(high - low, 1.0)
    return low - margin, high + margin
