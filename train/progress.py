"""What a run says of itself: a progress bar, JSON lines, TensorBoard."""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from ..data.files import replace_file


class RunLog:
    """Writes every record to `metrics.jsonl` and TensorBoard, and the newest to the bar.

    On a terminal the bar is live; elsewhere a line is printed every `line_seconds`.
    """

    def __init__(
        self,
        run_dir: Path,
        steps: int,
        start: int,
        *,
        rate: str = "wer",
        line_seconds: float = 20.0,
    ):
        """`rate`: which error rate of the development set is shown, recorded as `dev/wer`."""
        self.console = Console(stderr=True)
        self.steps = steps
        self.line_seconds = line_seconds
        self.last_line = time.monotonic()
        self.began = time.monotonic()
        self.start = start
        self.rate = rate
        self.fields: dict[str, Any] = {"loss": "-", "rate": "-", "speed": "-", "compute": ""}
        metrics = run_dir / "metrics.jsonl"
        _forget_after(metrics, start)
        self.records = open(metrics, "a", buffering=1)  # noqa: SIM115
        self.curves = Curves(run_dir / "tensorboard", start)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(
                f"loss {{task.fields[loss]}}  {rate.upper()} {{task.fields[rate]}}"
                "{task.fields[compute]}  {task.fields[speed]}"
            ),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=steps, completed=start, **self.fields)

    def __enter__(self) -> "RunLog":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()
        for file in (self.records, self.curves):
            try:
                file.close()
            except OSError:  # what is still in a buffer does not fit on a full disk
                if error is None:
                    raise

    def record(self, step: int, values: dict[str, float]) -> None:
        self.records.write(json.dumps({"step": step, **values}) + "\n")
        self.curves.add(step, values)
        if "loss" in values:
            self.fields["loss"] = f"{values['loss']:.3f}"
        rate = values.get(f"dev/{self.rate}")
        if rate is not None:
            self.fields["rate"] = f"{100 * rate:.1f} %"
        if "compute" in values:
            self.fields["compute"] = f"  compute {values['compute']:.2f}"
        if "audio_seconds_per_second" in values:
            self.fields["speed"] = f"{values['audio_seconds_per_second']:,.0f} s/s"
        self.bar.update(self.task, completed=step, **self.fields)
        now = time.monotonic()
        due = now - self.last_line > self.line_seconds or rate is not None
        if self.bar.disable and due:
            self.last_line = now
            left = (now - self.began) / max(1, step - self.start) * (self.steps - step)
            self.say(
                f"step {step}/{self.steps}  loss {self.fields['loss']}  "
                f"{self.rate.upper()} {self.fields['rate']}{self.fields['compute']}  "
                f"{self.fields['speed']}  left {left / 60:.1f} min"
            )

    def say(self, text: str) -> None:
        """One line for the person who watches, above the bar."""
        if self.bar.disable:
            say(text)
        else:
            self.console.print(text, markup=False, highlight=False)


@contextmanager
def counted(
    title: str, unit: str, total: int, *, line_seconds: float = 20.0
) -> Iterator[Callable[[int], None]]:
    """Progress of something before the first step; yields a function that is told how many of
    `total` are done. A bar on a terminal, elsewhere a line every `line_seconds`."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task(title, total=total)
    last = began = time.monotonic()

    def advance(done: int) -> None:
        nonlocal last
        bar.update(task, completed=done)
        now = time.monotonic()
        if bar.disable and now - last > line_seconds and done:
            last = now
            left = (now - began) / done * (total - done)
            say(f"{title}: {done:,} of {total:,} {unit}, left {left / 60:.1f} min")

    with bar:
        yield advance


def say(text: str) -> None:
    """One line for the person who watches, where no bar is live."""
    print(text, file=sys.stderr, flush=True)


class SilentLog:
    """The log of every process but the first."""

    def __init__(self, run_dir: Path, steps: int, start: int, *, rate: str = "wer"):
        del run_dir, steps, start, rate

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def record(self, step: int, values: dict[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class Curves:
    """TensorBoard's event file, written by the caller's own thread.

    tensorboardX's SummaryWriter writes in a thread of its own. When the disk is full that thread
    dies, and the eleventh record after it waits for ever.
    """

    def __init__(self, folder: Path, start: int, *, flush_seconds: float = 20.0):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self.writer = RecordWriter(str(folder / name))
        self.flush_seconds = flush_seconds
        self.flushed = float("-inf")
        self._write(file_version="brain.Event:2")
        # Takes back what a run that was killed wrote of the steps that are done again.
        self._write(step=start, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._write(step=step, summary=scalar(name, value))
        if time.monotonic() - self.flushed > self.flush_seconds:
            self.flushed = time.monotonic()
            self.writer.flush()

    def close(self) -> None:
        self.writer.close()

    def _write(self, **fields: Any) -> None:
        self.writer.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _forget_after(path: Path, step: int) -> None:
    """Takes out the records of steps that a resumed run will do again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):  # a line that a kill cut short
            continue
    replace_file(path, "".join(kept))
