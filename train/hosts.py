"""One run over the processes of many hosts.

Every process runs the same program and holds some of the devices. They find each other by
`connect`, before JAX is used for anything else; the first one writes what a run leaves, and the run
folder lies where all of them see it, since each writes its part of a checkpoint.
"""

import ctypes
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ..data.errors import InputError

LOST_SECONDS = 40.0
"""A process that has not been heard for so long is gone. JAX's own service ends the others after
100 s, with a stack of C++ frames."""
_BEAT_SECONDS = 2.0
_SILENT_BEATS = 4
"""In so many the first process would have been heard, were it only JAX's service that stopped."""
_ENDED = "ended"
"""What a process says last, which is then missed by nobody."""
_CLUSTERS = {"SLURM_NTASKS": "Slurm", "OMPI_COMM_WORLD_SIZE": "Open MPI"}


@dataclass(frozen=True)
class HostsConfig:
    """The processes of a run. On Cloud TPU, GKE, Slurm and Open MPI they are found without it."""

    coordinator: str = ""
    """HOST:PORT of the first process."""
    processes: int = 0
    """How many there are."""
    process_id: int = -1
    """Which one this is, from 0."""


def connect(config: HostsConfig) -> None:
    """Joins the processes of a run, by flags or as the cluster says; alone, does nothing.

    Raises InputError where flags are missing, or the others do not come.
    """
    given = (bool(config.coordinator), config.processes > 0, config.process_id >= 0)
    if any(given) and not all(given):
        raise InputError(
            "--coordinator, --processes and --process-id go together: give all three on every "
            "host, or none where the cluster says them (Cloud TPU, GKE, Slurm, Open MPI)."
        )
    if all(given) and config.process_id >= config.processes:
        raise InputError(
            f"--process-id {config.process_id} is none of {config.processes} processes: they are "
            f"counted from 0."
        )
    cluster = "" if all(given) else in_cluster()
    if not all(given) and not cluster:
        return
    if all(given) and config.processes == 1:
        return
    # Several processes of CPU devices (tests, mostly) need it; others do not look at it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would swallow a SIGTERM that comes before the loop listens to it.
    jax.config.update("jax_enable_preemption_service", False)
    options: dict[str, Any] = {}
    if all(given):
        options = {
            "coordinator_address": config.coordinator,
            "num_processes": config.processes,
            "process_id": config.process_id,
        }
    try:
        jax.distributed.initialize(**options, initialization_timeout=300)
    except Exception as error:  # whatever the service raises, at whatever depth
        where = config.coordinator or f"the coordinator that {cluster} names"
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(
            f"the processes of this run did not meet at {where} ({reason}): start all of them "
            f"within five minutes, and see that the port is open."
        ) from None


def in_cluster() -> str:
    """The cluster whose processes this is one of; '' where it is alone."""
    for variable, name in _CLUSTERS.items():
        if int(os.environ.get(variable) or 1) > 1:
            return name
    on_tpu = importlib.util.find_spec("libtpu") is not None and any(
        Path("/dev").glob(pattern) for pattern in ("accel[0-9]*", "vfio/[0-9]*")
    )
    several = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    several = several or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ
    return "Cloud TPU" if on_tpu or several else ""


def is_first() -> bool:
    """Whether this process writes what all of them share."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when every process has come to this line."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def to_host(tree: Any) -> Any:
    """Arrays of all devices as NumPy arrays, whole, on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def rows_of_process(mesh: Mesh) -> tuple[int, int]:
    """(index, count): of `count` equal parts of a batch's rows, this process loads part `index`.

    Processes whose devices differ along `model` alone load the same rows. Raises InputError for a
    mesh in which a process's rows do not lie beside each other.
    """
    places = np.arange(mesh.shape["data"] * mesh.shape["fsdp"])
    grid = np.broadcast_to(places.reshape(*mesh.devices.shape[:2], 1), mesh.devices.shape)
    own = np.vectorize(lambda device: device.process_index)(mesh.devices) == jax.process_index()
    held = np.unique(grid[own])
    size, first = len(held), int(held[0])
    if held[-1] - first + 1 != size or len(places) % size or first % size:
        raise InputError(
            f"in a mesh of data {mesh.shape['data']} x fsdp {mesh.shape['fsdp']} x model "
            f"{mesh.shape['model']} the rows of a process do not lie beside each other: let "
            f"--mesh.model divide the devices of one host."
        )
    return first // size, len(places) // size


def stops_together(
    step: Callable[..., tuple[Any, dict[str, jax.Array]]],
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """A step whose metrics say whether any process wants to stop: `stop` [B] comes in the batch.

    So all of them read it in the same turn of the loop, and nobody waits for it.
    """

    def stepped(state: Any, batch: Mapping[str, jax.Array], *constants: Any) -> Any:
        rest = {name: rows for name, rows in batch.items() if name != "stop"}
        state, metrics = step(state, rest, *constants)
        return state, {**metrics, "stop": batch["stop"].max()}

    return stepped


@contextmanager
def watched_peers(run_dir: Path, end: Callable[[str], None]) -> Iterator[None]:
    """Each process counts aloud, in a file of the run folder, and listens to the others.

    Of one that falls silent, `end` is told in a sentence; a collective that waits for it would
    wait for ever. An error that a lost process causes here is held back until it is known.
    """
    if jax.process_count() == 1:
        yield
        return
    watch = _Watch(run_dir / "hosts", end, LOST_SECONDS)
    with _before_abort(watch.miss_first):
        try:
            yield
            watch.close()
            watch.say(_ENDED)
        except InputError:
            raise
        except Exception:
            # Is it because another process is gone?
            watch.over.wait(LOST_SECONDS + 3 * _BEAT_SECONDS)
            raise
        finally:
            watch.close()


@contextmanager
def _before_abort(act: Callable[[], None]) -> Iterator[None]:
    """While it lasts, `act` is called before this process is aborted, on the thread that does it.

    JAX's client aborts its process as soon as it loses the coordination service, and jaxlib cannot
    call Python about it. A handler by `signal` would run on the main thread, which waits for a
    collective.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: act())
    install = ctypes.CDLL(None).signal
    install.argtypes, install.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    before = install(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    try:
        yield
    finally:
        install(signal.SIGABRT, before)


class _Watch:
    def __init__(self, folder: Path, end: Callable[[str], None], lost_seconds: float):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.end, self.lost_seconds = folder, end, lost_seconds
        self.own, self.count = jax.process_index(), jax.process_count()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._listen, name="peers", daemon=True)
        self.say(0)
        wait_for_all("watch")  # what lies there of an earlier run is overwritten
        self.thread.start()

    def close(self) -> None:
        self.over.set()
        if self.thread is not threading.current_thread():
            self.thread.join()

    def say(self, what: int | str) -> None:
        beat = self.folder / str(self.own)
        temporary = beat.with_suffix(".new")
        try:
            temporary.write_text(f"{os.uname().nodename} {what}")
            temporary.replace(beat)
        except OSError:  # a full disk is somebody else's sentence
            pass

    def miss_first(self) -> None:
        """Tells `end` of the first process if it is gone, and with it JAX's service; one that has
        ended is not missed."""
        if self.own == 0:
            return
        heard = self._heard(0)
        time.sleep(_SILENT_BEATS * _BEAT_SECONDS)
        if heard == self._heard(0) and not heard.endswith(_ENDED):
            self._lost(0, heard, _SILENT_BEATS * _BEAT_SECONDS)

    def _heard(self, process: int) -> str:
        """What another process said last; '' where its file cannot be read."""
        try:
            return (self.folder / str(process)).read_text()
        except OSError:
            return ""

    def _lost(self, process: int, heard: str, seconds: float) -> None:
        self.over.set()
        self.end(
            f"process {process} of {self.count} (on {heard.split(' ')[0] or 'unknown'}) has not "
            f"been heard for {seconds:.0f} s, so the run stops: start all processes again with "
            f"--resume."
        )

    def _listen(self) -> None:
        heard = {i: ("", time.monotonic()) for i in range(self.count) if i != self.own}
        beats = 0
        while not self.over.wait(_BEAT_SECONDS):
            beats += 1
            self.say(beats)
            now = time.monotonic()
            for i, (last, at) in heard.items():
                said = self._heard(i) or last
                if said != last or said.endswith(_ENDED):
                    heard[i] = (said, now)
                elif now - at > self.lost_seconds:
                    self._lost(i, last, self.lost_seconds)
                    return
