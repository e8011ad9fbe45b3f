"""Pictures of gates: under the spectrogram of a recording, and block by block over a corpus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .evaluation_plot import check_plot_path, undated
from .experiment_plot import FIGURE_STYLE
from .transcript import Transcript
from .usage import Gates, Usage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours: attention, feed-forward; speech, between.
_ATTENTION, _FEED_FORWARD = "#0072B2", "#D55E00"
_SPEECH, _BETWEEN = "#009E73", "#999999"
_INCHES_A_SECOND, _WIDTH = 2.2, (5.0, 16.0)


def write_gates(
    spectrogram: np.ndarray,
    hop_s: float,
    transcript: Transcript,
    gates: Gates | None,
    title: str,
    path: Path,
) -> None:
    """Draws a recording's log-mel energies [T, bins] with its words, and the open gates below.

    Words stand where the model emits them, which is a little after they are heard. Without gates,
    the spectrogram alone. Raises InputError as `check_plot_path`.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    seconds = len(spectrogram) * hop_s
    width = float(np.clip(1.5 + _INCHES_A_SECOND * seconds, *_WIDTH))
    settings: dict[Any, Any] = {"svg.hashsalt": "gates", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        rows = 1 if gates is None else 3
        figure = Figure(figsize=(width, 2.8 if gates is None else 5.4), layout="constrained")
        all_axes = np.atleast_1d(
            figure.subplots(rows, 1, sharex=True, height_ratios=[3, 3, 1][:rows])
        )
        _spectrogram(all_axes[0], spectrogram, seconds)
        _words(all_axes[0], transcript)
        if gates is not None:
            _gates(all_axes[1], gates)
            _share(all_axes[2], gates)
        all_axes[-1].set_xlabel("seconds")
        all_axes[-1].set_xlim(0, seconds)
        all_axes[0].set_title(title, fontsize=9, pad=26)  # over two lines of words
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))


def write_usage(usage: Usage, title: str, path: Path) -> None:
    """Draws how often each part runs, on speech and between, and the ratios of recordings.

    Raises InputError as `check_plot_path`.
    """
    check_plot_path(path)
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {"svg.hashsalt": "usage", **FIGURE_STYLE}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(7.2, 5.6), layout="constrained")
        grid = figure.add_gridspec(2, 2)
        between = usage.between_rates
        for i, name in enumerate(("attention", "feed-forward")):
            axes = figure.add_subplot(grid[0, i])
            at = np.arange(len(usage.rates))
            axes.bar(at - 0.2, usage.speech_rates[:, i], 0.4, color=_SPEECH, label="speech")
            axes.bar(at + 0.2, between[:, i], 0.4, color=_BETWEEN, label="between")
            axes.set(title=name, xlabel="block", ylim=(0, 1), xticks=at)
            axes.set_ylabel("share of frames" if i == 0 else "")
        axes.legend(frameon=False, fontsize=8)
        axes = figure.add_subplot(grid[1, :])
        axes.hist(usage.of_utterances, bins=30, color=_ATTENTION)
        axes.axvline(usage.ratio, color="black", linewidth=1)
        axes.set(xlabel="computed of the dense encoder, each recording", ylabel="recordings")
        figure.suptitle(title, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata=undated(path))


def _spectrogram(axes: "Axes", spectrogram: np.ndarray, seconds: float) -> None:
    low, high = np.percentile(spectrogram, (5, 99.5))
    axes.imshow(
        spectrogram.T,
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, spectrogram.shape[1]),
        cmap="magma",
        vmin=low,
        vmax=high,
        interpolation="nearest",
    )
    axes.set_ylabel("mel filter")


def _words(axes: "Axes", transcript: Transcript) -> None:
    top = axes.get_ylim()[1]
    for i, word in enumerate(transcript.words):
        axes.axvline(word.start, color="white", linewidth=0.7, alpha=0.8)
        # Two lines in turn: neighbours would be drawn over each other.
        text = axes.annotate(
            word.text,
            (word.start, top),
            xytext=(1, 2 + 10 * (i % 2)),
            textcoords="offset points",
            fontsize=8,
            annotation_clip=False,
        )
        text.set_in_layout(False)


def _gates(axes: "Axes", gates: Gates) -> None:
    """A row for each part of each block, the first block at the bottom."""
    frames, blocks, _ = gates.open.shape
    picture = np.ones((2 * blocks, frames, 3))
    for i, colour in enumerate((_ATTENTION, _FEED_FORWARD)):
        rgb = np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])
        picture[i::2][gates.open[:, :, i].T] = rgb
    axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        extent=(0, frames * gates.frame_s, 0, 2 * blocks),
        interpolation="nearest",
    )
    for block in range(1, blocks):
        axes.axhline(2 * block, color="0.8", linewidth=0.6)
    axes.set_yticks(2 * np.arange(blocks) + 1, [str(b) for b in range(blocks)])
    axes.set_ylabel("block: attention blue,\nfeed-forward orange", fontsize=8)


def _share(axes: "Axes", gates: Gates) -> None:
    share = gates.open.mean(axis=(1, 2))
    edges = np.arange(len(share) + 1) * gates.frame_s
    axes.stairs(share, edges, color="black")
    speech = np.repeat(gates.speech, 2)
    across = np.repeat(edges, 2)[1:-1]
    axes.fill_between(across, 0, 1, where=speech.tolist(), color=_SPEECH, alpha=0.2, linewidth=0)
    axes.set(ylim=(0, 1), ylabel="open\n(green: loud)")
