"""A picture of a conversation: its sound, who spoke when, what was heard on each channel."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.audio import SAMPLE_RATE
from ..data.turns import Turn
from .evaluation_plot import check_plot_path, undated
from .experiment_plot import FIGURE_STYLE
from .transcript import HeardTurn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, a speaker each; the third and further ones take turns.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_NOBODY = "#555555"
_INCHES_A_SECOND, _WIDTH = 0.75, (7.0, 22.0)
_CHARACTERS_AN_INCH = 14.0


def write_conversation(
    samples: np.ndarray,
    heard: Sequence[HeardTurn],
    channels: int,
    title: str,
    path: Path,
    *,
    reference: Sequence[Turn] = (),
) -> None:
    """Draws int16 samples [N] over turns: those of the reference, a row for each speaker, where it
    is known, and those that were heard, a row for each channel.

    A turn's bar goes from the beginning that the model tells to the end that it tells. Its colour
    is the speaker's who is named, or in the reference the one who speaks most of its time; the thin
    line behind it goes from the end of the reference turn to where the end was told: the latency.

    Raises InputError as `check_plot_path`.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    seconds = len(samples) / SAMPLE_RATE
    width = float(np.clip(1.5 + _INCHES_A_SECOND * seconds, *_WIDTH))
    speakers = list(dict.fromkeys(turn.speaker for turn in reference))
    named = [turn.speaker for turn in heard if turn.speaker]
    order = [*speakers, *(name for name in dict.fromkeys(named) if name not in speakers)]
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(order)}
    rows = [len(speakers), channels] if reference else [channels]
    settings: dict[Any, Any] = {"svg.hashsalt": "conversation", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, 1.6 + 0.55 * sum(rows)), layout="constrained")
        heights = [1.6, *rows]
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        _waveform(axes[0], samples)
        axes[0].set_title(title, fontsize=9)
        scale = width / max(seconds, 1e-9) * _CHARACTERS_AN_INCH
        if reference:
            for turn in reference:
                _bar(axes[1], speakers.index(turn.speaker), turn, colours[turn.speaker], scale)
            _lanes(axes[1], [name or "?" for name in speakers], "reference")
        for turn in heard:
            partner = _partner(turn, reference)
            name = turn.speaker or (partner.speaker if partner else "")
            _bar(axes[-1], turn.channel, turn, colours.get(name, _NOBODY), scale)
            if partner is not None and turn.marked[1]:
                y = turn.channel + 0.36
                axes[-1].plot([partner.end, turn.end], [y, y], color="black", linewidth=1.2)
                axes[-1].plot([partner.end], [y], marker="|", color="black", markersize=5)
        _lanes(axes[-1], [f"channel {c + 1}" for c in range(channels)], "heard")
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0, seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata=undated(path))


def _waveform(axes: "Axes", samples: np.ndarray) -> None:
    """Least and greatest sample of short pieces: drawing them all would take seconds."""
    size = max(len(samples) // 3000, 1)
    pieces = samples[: len(samples) // size * size].reshape(-1, size)
    at = (np.arange(len(pieces)) + 0.5) * size / SAMPLE_RATE
    axes.fill_between(at, pieces.min(axis=1), pieces.max(axis=1), color="0.4", linewidth=0)
    axes.set_yticks([])
    axes.set_ylabel("sound")


def _bar(axes: "Axes", row: int, turn: Turn | HeardTurn, colour: str, scale: float) -> None:
    axes.barh(row, turn.end - turn.start, left=turn.start, height=0.6, color=colour, alpha=0.35)
    axes.plot([turn.start, turn.start], [row - 0.3, row + 0.3], color=colour, linewidth=1.5)
    room = int((turn.end - turn.start) * scale)
    text = turn.text if len(turn.text) <= room else turn.text[: max(room - 1, 0)] + "…"
    axes.text(turn.start, row, f" {text}", fontsize=6.5, va="center", ha="left", clip_on=True)


def _lanes(axes: "Axes", names: Sequence[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_ylabel(label)


def _partner(turn: HeardTurn, reference: Sequence[Turn]) -> Turn | None:
    """The reference turn that shares most time with a heard one."""

    def shared(other: Turn) -> float:
        return min(turn.end, other.end) - max(turn.start, other.start)

    best = max(reference, key=shared, default=None)
    return best if best is not None and shared(best) > 0 else None
