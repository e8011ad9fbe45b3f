"""Pictures of cohorts: in their order, and regions on the map."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fairness.discovery import Discovery
from ..fairness.population import Population
from ..fairness.regions import Regions, coordinates
from .evaluation_plot import undated
from .experiment_plot import FIGURE_STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

# Okabe and Ito's vermilion and blue, which the colour-blind can tell apart.
_COLOURS = {"bottom": "#D55E00", "middle": "0.45", "top": "#0072B2", "": "0.8"}
_MOST_DOTS = 5000
_MARGIN = 0.05
_LEAST_HALF = 0.5
"""Of the scale of colours, in points: less is no difference to show."""


def write_ranking(found: Discovery, path: Path) -> None:
    """Draws every cohort's rate on the ranking and on the report speakers, the worst on top."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_settings()):
        height = 1.6 + 0.2 * len(found.cohorts)
        figure = Figure(figsize=(6.4, min(height, 26.0)), layout="constrained")
        axes = figure.subplots()
        for y, cohort in enumerate(found.cohorts):
            colour = _COLOURS[cohort.group]
            low, high = 100 * cohort.report_wer.low, 100 * cohort.report_wer.high
            axes.hlines(y, low, high, colors=colour, linewidth=1.5)  # none where nan
            axes.plot(100 * cohort.report_wer.value, y, "o", color=colour, markersize=5)
            axes.plot(
                100 * cohort.ranking.wer, y, "o", color=colour, markersize=5, fillstyle="none"
            )
        axes.axvline(100 * found.report.wer, color="0.6", linewidth=1, linestyle="--")
        names = [f"{c.name}  {c.rank or ''}".rstrip() for c in found.cohorts]
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("WER (%)")
        axes.set_title(
            "Open: ranking speakers. Full: report speakers, 95 % over them. Dashed: all of these.\n"
            "Vermilion: bottom. Blue: top. Pale: too few speakers for a rank.",
            fontsize=8,
        )
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        _save(figure, path)


def write_map(found: Discovery, regions: Regions, population: Population, path: Path) -> None:
    """Draws the regions, coloured by their shrunken rates, and the speakers in them."""
    import matplotlib
    from matplotlib.figure import Figure

    longitude, latitude = coordinates(population)
    west, east, south, north = _extent(longitude, latitude)
    results = {c.name: c for c in found.cohorts}
    ranked = [results[name] for name in regions.names]
    rates = [None if c.rank is None else 100 * c.shrunken for c in ranked]
    with matplotlib.rc_context(_settings()):
        tall = float(np.clip(8 * (north - south) / (east - west), 3.0, 8.0))
        figure = Figure(figsize=(9.0, tall + 0.8), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(west, east), ylim=(south, north), xlabel="longitude", ylabel="latitude")
        colours = draw_boxes(axes, regions.boxes, rates)
        dots = np.flatnonzero(np.isfinite(longitude))
        dots = dots[:: max(1, len(dots) // _MOST_DOTS)]
        axes.plot(longitude[dots], latitude[dots], ".", color="0.2", markersize=1.2, alpha=0.6)
        index = regions.locate(longitude, latitude)
        for cohort in found.cohorts:
            if cohort.rank is not None:
                own = index == regions.names.index(cohort.name)
                at = float(longitude[own].mean()), float(latitude[own].mean())
                box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "linewidth": 0.4}
                axes.text(*at, str(cohort.rank), fontsize=6, ha="center", va="center", bbox=box)
        axes.set_title(
            "Number: rank, 1 the worst, at the middle of the region's speakers (dots). "
            "Grey: too few speakers.",
            fontsize=8,
        )
        figure.colorbar(colours, ax=axes, label="WER (%), shrunken", shrink=0.8)
        _save(figure, path)


def draw_boxes(axes: "Axes", boxes: np.ndarray, rates: Sequence[float | None]) -> "ScalarMappable":
    """Draws regions, cut to the axes' limits; grey where there is no rate.

    Args:
      boxes: [K, 4], west, east, south, north.
      rates: WER in percent.

    Returns:
      The scale of colours.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    known = [rate for rate in rates if rate is not None] or [0.0]
    middle, half = (min(known) + max(known)) / 2, max((max(known) - min(known)) / 2, _LEAST_HALF)
    colours = ScalarMappable(Normalize(middle - half, middle + half), "cividis_r")
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    for (left, right, low, high), rate in zip(boxes, rates, strict=True):
        left, right = np.clip([left, right], west, east)
        low, high = np.clip([low, high], south, north)
        box = Rectangle((left, low), right - left, high - low)
        fill = "0.9" if rate is None else colours.to_rgba(np.array(rate))
        box.set(facecolor=fill, edgecolor="white", linewidth=0.6)
        axes.add_patch(box)
    return colours


def _extent(longitude: np.ndarray, latitude: np.ndarray) -> tuple[float, float, float, float]:
    """West, east, south and north of the speakers, with a margin."""
    found: list[float] = []
    for values in (longitude, latitude):
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        margin = _MARGIN * max(high - low, 0.1)
        found += [low - margin, high + margin]
    return found[0], found[1], found[2], found[3]


def _settings() -> dict[Any, Any]:
    return {"svg.hashsalt": "cohorts", **FIGURE_STYLE}


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=160, metadata=undated(path))
