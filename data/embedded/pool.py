"""Speak a draw in parallel.

espeak-ng holds the interpreter's lock and keeps global state, so speaking in parallel takes
processes. They are started as commands and not by `multiprocessing`, which would import the
caller's main script again (and fail in one without a `__main__` guard) or fork a process that runs
JAX.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import Any

from .draw import Draw


def speak_all(
    draw: Draw, workers: int | None = None
) -> Generator[list[dict[str, Any]], None, None]:
    """`worker.speak` for every session of a draw, in order, by several processes.

    Args:
      workers: how many; one a core if None. What is said does not depend on it.
    """
    sessions = draw.sessions()
    workers = min(workers or _cores(), len(sessions))
    with contextlib.ExitStack() as stack:
        # Whatever the processes leave behind goes with this folder, also if they are stopped.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="parley-espeak-"))
        idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for _ in range(workers):
            process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"TMPDIR": scratch},
            )
            stack.callback(_stop, process)
            idle.put(process)
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def ask(session: tuple[int, range]) -> list[dict[str, Any]]:
            process = idle.get()
            try:
                return _ask(process, draw, *session)
            finally:
                idle.put(process)

        waiting = iter(sessions)
        ahead = deque(pool.submit(ask, session) for session in islice(waiting, 2 * workers))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(ask, session) for session in islice(waiting, 1))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _ask(
    process: subprocess.Popen[bytes], draw: Draw, index: int, numbers: range
) -> list[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        job = {"draw": asdict(draw), "index": index, "numbers": list(numbers)}
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        reply = pickle.load(process.stdout)
    except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(
            f"a process that speaks the embedded corpus ended (exit status {process.poll()}) "
            f"while it was at speaker {index} of {draw.name}"
        ) from error
    if isinstance(reply, BaseException):
        raise reply
    return reply


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
