"""What commands print: tables and results to stdout, bars and remarks to stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_LINE_SECONDS = 30.0
"""Between lines of progress where there is no terminal."""


def stdout() -> Console:
    """A console that does not squeeze tables where there is no terminal to fit them to."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    return console


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A plain table; columns named in `right` are set flush right."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made


def remark(text: str) -> None:
    """One line to stderr, under the program's name."""
    print(f"parley: {text}", file=sys.stderr, flush=True)


@contextmanager
def audio_progress(title: str, seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar over so many seconds of audio; yields the function that advances it.

    Without a terminal on stderr, a line every half minute.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, seconds).advance
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]} of audio"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    done = 0.0
    # Text that goes to a file or a pipe must not be drawn into by the bar.
    screen = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=screen) as progress:
        task = progress.add_task(title, total=seconds, amount=_of(0.0, seconds))

        def advance(more: float) -> None:
            nonlocal done
            done += more
            progress.update(task, completed=min(done, seconds), amount=_of(done, seconds))

        yield advance


@contextmanager
def step_progress(title: str, steps: int) -> Iterator[Callable[[], None]]:
    """A bar over so many steps; yields the function that is called after each. Nothing is shown
    without a terminal on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(title, total=steps)
        yield lambda: progress.advance(task)


class _Lines:
    """Progress for a log file."""

    def __init__(self, title: str, seconds: float):
        self._title, self._seconds = title, seconds
        self._done = 0.0
        self._began = self._said = monotonic()

    def advance(self, more: float) -> None:
        self._done += more
        now = monotonic()
        if now - self._said < _LINE_SECONDS or not self._done:
            return
        self._said = now
        speed = self._done / (now - self._began)
        left = max(self._seconds - self._done, 0.0) / speed
        remark(
            f"{self._title}: {_of(self._done, self._seconds)} of audio, {speed:,.0f} times real "
            f"time, {timedelta(seconds=round(left))} left"
        )


def amount(seconds: float) -> str:
    """`12.3 h`, `4.5 min` or `6 s`."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _of(done: float, total: float) -> str:
    return f"{amount(done)} of {amount(total)}"
