"""What commands print: tables and results to stdout, bars and remarks to stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


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
    """A bar over seconds of audio; yields the function that advances it.

    Without a terminal on stderr there is no bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} s of audio"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=seconds)
        yield lambda done: progress.advance(task, done)
