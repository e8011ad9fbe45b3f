"""Checkpoints of the whole training state: asynchronous, checked, never half-believed.

Orbax writes them in the background and renames a folder only when it is complete. What Orbax
cannot see is a file that was cut short afterwards: a missing chunk reads as zeros. So a fingerprint
of the state travels with it and is recomputed when it is read; a checkpoint that fails is set aside
and the one before it is used.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from ..data.errors import InputError
from .hosts import is_first, wait_for_all

# How Orbax says that a checkpoint has other parts than are asked for.
_OTHER_STRUCTURE = ("tree structures do not match", "Structure mismatch")


@jax.jit
def fingerprint(tree: Any) -> jax.Array:
    """A uint32 that changes with any bit of any leaf, and does not depend on the sharding."""
    total = jnp.uint32(2166136261)
    for leaf in jax.tree.leaves(tree):
        bits = leaf.astype(jnp.uint32) if leaf.dtype.itemsize != 4 else _bits(leaf)
        # Odd weights are invertible modulo 2^32: no single changed word can cancel.
        weights = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
        total = total * jnp.uint32(16777619) + jnp.sum(bits.reshape(-1) * weights)
    return total


def _bits(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


@contextlib.contextmanager
def lock_run(run_dir: Path) -> Iterator[None]:
    """Holds a run folder for one process; the lock ends with the process, however it ends.

    Raises InputError if another run holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / "lock", "a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{run_dir} is in use by another run: give this one its own --run-dir, "
                f"or wait until that one ends."
            ) from None
        yield


@contextlib.contextmanager
def named_disk_errors(folder: Path, what: str) -> Iterator[None]:
    """Turns whatever a full disk raises, at whatever depth, into an InputError of one sentence.

    `what` ends "the disk that holds FOLDER is full, so ...".
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not _disk_full(error):
            raise
        raise InputError(
            f"the disk that holds {folder} is full, so {what}; free some space and run the same "
            f"command with --resume."
        ) from error


def require_space(folder: Path, needed: int) -> None:
    """Raises InputError before a run starts if its checkpoints cannot fit on the disk."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {free / 2**20:.0f} MiB free and the checkpoints of this run need "
            f"{needed / 2**20:.0f} MiB: free some space or choose another --run-dir."
        )


class Checkpoints:
    """Numbered checkpoints under one folder; `state` is any pytree of arrays."""

    def __init__(self, folder: Path, *, keep: int = 3):
        self.folder = folder
        # Orbax's threads print hundreds of lines about an error that `save` or `wait` raises too.
        logging.getLogger("absl").addFilter(_is_news)
        self.manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, enable_async_checkpointing=True, create=True
            ),
        )

    def save(self, step: int, state: Any) -> None:
        """Starts writing `state` and returns; waits only for the write before this one.

        Raises InputError when the disk is full; checkpoints written before stay usable.
        """
        tree = {"state": state, "fingerprint": fingerprint(state)}
        with self._named_disk_errors():
            self.manager.save(step, args=ocp.args.StandardSave(tree), force=True)

    def wait(self) -> None:
        """Returns when all is written. Raises InputError when the disk is full."""
        with self._named_disk_errors():
            self.manager.wait_until_finished()

    def close(self) -> None:
        self.wait()
        self.manager.close()

    def steps(self) -> list[int]:
        """Steps of the checkpoints that lie on the disk, in order."""
        self.manager.reload()
        return sorted(self.manager.all_steps())

    def restore(self, template: Any) -> tuple[int, Any, list[str]]:
        """The newest checkpoint that is whole, in the shapes and shardings of `template`.

        Returns (step, state, notes): a note for each damaged checkpoint that was passed over and
        moved to `damaged-<step>`. Raises InputError if none can be read, or if the state of another
        version of the program lies there, which is left as it is.
        """
        notes: list[str] = []
        mark = jax.ShapeDtypeStruct((), jnp.uint32, sharding=_everywhere(template))
        expected = {"state": template, "fingerprint": mark}
        for step in reversed(self.steps()):
            try:
                tree = self.manager.restore(step, args=ocp.args.StandardRestore(expected))
                if int(fingerprint(tree["state"])) == int(tree["fingerprint"]):
                    return step, tree["state"], notes
                reason = "its contents changed since they were written"
            except Exception as error:  # whatever a damaged file makes the reader raise
                if any(words in str(error) for words in _OTHER_STRUCTURE):
                    raise InputError(
                        f"checkpoint {step} in {self.folder} was written by another version of "
                        f"this program, whose state has other parts: resume with that version, or "
                        f"train anew in another --run-dir."
                    ) from None
                reason = str(error).strip().split("\n")[0][:160]
            notes.append(f"checkpoint {step} in {self.folder} is damaged and set aside: {reason}")
            wait_for_all(f"damaged {step}")
            if is_first():
                aside = self.folder / f"damaged-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)
            wait_for_all(f"aside {step}")
            self.manager.reload()
        raise InputError(
            f"{self.folder} holds no usable checkpoint: start again without --resume."
            + "".join(f" ({note})" for note in notes)
        )

    @contextlib.contextmanager
    def _named_disk_errors(self) -> Iterator[None]:
        try:
            with named_disk_errors(self.folder, "this checkpoint was not written"):
                yield
        except InputError as error:
            last = self.steps()[-1:] or ["none"]
            raise InputError(f"{error} (last good checkpoint: {last[0]})") from error.__cause__


def _everywhere(template: Any) -> Any:
    """A whole copy on each device of the template's mesh; None where it has none.

    Without it a scalar would be looked for on the devices that wrote it.
    """
    for leaf in jax.tree.leaves(template):
        if isinstance(leaf.sharding, NamedSharding):
            return NamedSharding(leaf.sharding.mesh, PartitionSpec())
    return None


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record says something other than that the disk is full."""
    return not (record.exc_info and _disk_full(record.exc_info[1]))


def _disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC).lower() in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
