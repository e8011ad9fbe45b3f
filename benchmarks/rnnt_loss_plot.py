"""Figures of `rnnt_loss`: memory against the vocabulary, time against the length."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..zoo.console import remark
from ..zoo.experiment_plot import FIGURE_STYLE
from .rnnt_loss_cases import PUBLIC_WIDTH, Case, full_rows

Ask = Callable[[dict[str, Any]], dict[str, Any]]

# Okabe and Ito's colours, which the colour-blind can tell apart; each has a mark of its own too.
_STYLES = {"full logits": ("#D55E00", "s"), "transducer_loss": ("#0072B2", "o")}
_FLOOR = "floor: 6DV operations a cell"


def plot_memory(folder: Path, ask: Ask, small: bool) -> Path:
    """Compiled temporary memory against V. Nothing runs: the compiler plans it."""
    classes = [2**n for n in range(5, 10 if small else 14)]
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in _STYLES}
    for n_classes in classes:
        remark(f"memory of V={n_classes}")
        answer = ask({"form": "memory", "case": _memory_case(n_classes).as_json()})
        for form, memory in answer.get("memory", {}).items():
            if memory:
                found[form].append((n_classes, memory["temporary"] / 2**20))
    path = folder / "rnnt_loss_memory.png"
    _draw(
        path,
        found,
        xlabel="classes V",
        ylabel="compiled temporary memory (MiB)",
        title="Loss and gradient of B8 T250 U60 D640, float32",
        ticks=classes,
    )
    return path


def _memory_case(n_classes: int) -> Case:
    return full_rows("joint", 8, 250, 60, n_classes, 640)


def plot_time(folder: Path, ask: Ask, small: bool, about: dict[str, Any], repeats: int) -> Path:
    """Time of one evaluation against T, with U = T / 4."""
    lengths = [25, 50, 100] if small else [50, 100, 200, 400, 800]
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in _STYLES}
    rate = about["flops_per_s"]
    for n_frames in lengths:
        case = full_rows("joint", 4, n_frames, n_frames // 4, 500, PUBLIC_WIDTH)
        for form in _STYLES:
            remark(f"time of T={n_frames}: {form}")
            answer = ask({"form": form, "case": case.as_json(), "repeats": repeats})
            if "ms" in answer:
                found[form].append((n_frames, statistics.median(answer["ms"][form])))
                rate = max(rate, answer["flops_per_s"])
            else:
                remark(f"left out: {answer.get('skipped') or answer.get('failed')}")
    if rate:
        found[_FLOOR] = [
            (n, 1e3 * full_rows("joint", 4, n, n // 4, 500, PUBLIC_WIDTH).flops / rate)
            for n in lengths
        ]
    path = folder / "rnnt_loss_time.png"
    _draw(
        path,
        found,
        xlabel="frames T, with U = T / 4 labels",
        ylabel="loss and gradient (ms)",
        title=f"B4 D{PUBLIC_WIDTH} V500, float32, {about['device']}",
        ticks=lengths,
    )
    return path


def _draw(
    path: Path,
    found: dict[str, list[tuple[float, float]]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    ticks: Sequence[int],
) -> None:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    settings: dict[Any, Any] = FIGURE_STYLE
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for name, points in found.items():
            if not points:
                continue
            x, y = zip(*points, strict=True)
            if name in _STYLES:
                colour, mark = _STYLES[name]
                axes.plot(x, y, marker=mark, color=colour, markersize=6, label=name)
            else:
                axes.plot(x, y, "--", color="0.4", linewidth=1.2, label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=160)
