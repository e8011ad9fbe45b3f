"""A checkpoint is whole or is not used."""

import errno
import multiprocessing
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parley.data.errors import InputError
from parley.data.files import replace_file
from parley.train import checkpoint
from parley.train.checkpoint import (
    Checkpoints,
    fingerprint,
    lock_run,
    named_disk_errors,
    require_space,
)


def state(value: float) -> dict:
    return {
        "w": {0: jnp.full((64, 64), value), 1: jnp.arange(5)},
        "step": jnp.int32(value),
        "flag": jnp.array([True, False]),
    }


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=3)
    for step in (1, 2):
        checkpoints.save(step, state(step))
    checkpoints.wait()
    yield checkpoints
    checkpoints.close()


def template():
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0)
    )


def test_the_newest_comes_back_exactly(saved):
    step, restored, notes = saved.restore(template())
    assert (step, notes) == (2, [])
    jax.tree.map(np.testing.assert_array_equal, restored, state(2))


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "flip"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(saved, damage: str):
    victim = largest_file(saved.folder / "2")
    content = victim.read_bytes()
    if damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "missing":
        victim.unlink()
    else:
        middle = len(content) // 2
        victim.write_bytes(
            content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        )
    step, restored, notes = saved.restore(template())
    assert step == 1
    assert len(notes) == 1
    assert "checkpoint 2" in notes[0]
    assert "damaged" in notes[0]
    np.testing.assert_array_equal(restored["w"][0], state(1)["w"][0])
    assert (saved.folder / "damaged-2").exists()


def test_contents_that_changed_are_noticed(saved, monkeypatch):
    """What a reader cannot see: every file reads well, but as other numbers."""
    real = saved.manager.restore

    def lying(step, args):
        tree = real(step, args=args)
        if step == 2:
            tree["state"]["w"][0] = tree["state"]["w"][0].at[3, 4].set(0)
        return tree

    monkeypatch.setattr(saved.manager, "restore", lying)
    step, _, notes = saved.restore(template())
    assert step == 1
    assert "contents changed" in notes[0]


def test_the_state_of_another_version_is_left_alone(saved):
    with pytest.raises(InputError, match=r"checkpoint 2 .* another version"):
        saved.restore(template() | {"added": jax.ShapeDtypeStruct((), jnp.float32)})
    assert saved.steps() == [1, 2]


def test_nothing_usable_is_one_sentence(saved):
    for step in (1, 2):
        largest_file(saved.folder / str(step)).unlink()
    with pytest.raises(InputError, match="no usable checkpoint"):
        saved.restore(template())


def test_any_bit_changes_the_fingerprint_and_the_sharding_does_not():
    tree = {"a": jnp.arange(24.0).reshape(8, 3), "b": jnp.arange(3)}
    whole = int(fingerprint(tree))
    assert int(fingerprint({**tree, "b": jnp.array([0, 1, 3])})) != whole
    assert int(fingerprint({**tree, "a": tree["a"].at[7, 2].add(2e-6)})) != whole
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.NamedSharding(mesh, jax.P("x"))
    assert int(fingerprint({**tree, "a": jax.device_put(tree["a"], split)})) == whole


def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(saved, monkeypatch):
    def full(*_, **__):
        raise ValueError("write failed") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(saved.manager, "save", full)
        with pytest.raises(InputError, match=r"is full.*last good checkpoint: 2"):
            saved.save(3, state(3))
    assert saved.restore(template())[0] == 2


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "recipe.json"
    replace_file(path, "before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"is full, so it ended; .* --resume"):  # noqa: SIM117
        with named_disk_errors(tmp_path, "it ended"):
            replace_file(path, "afterwards")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_another_error_is_not_called_a_full_disk(saved, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr(saved.manager, "save", broken)
        with pytest.raises(ValueError, match="a mistake of ours"):
            saved.save(3, state(3))


def test_too_little_space_is_said_before_the_run(tmp_path, monkeypatch):
    require_space(tmp_path, 1)
    with pytest.raises(InputError, match="MiB free"):
        require_space(tmp_path, 1 << 60)


def hold(folder, ready, leave):
    with lock_run(folder):
        ready.set()
        leave.wait(60)


def test_two_runs_cannot_share_a_folder_and_a_dead_one_leaves_it_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, leave))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(InputError, match="in use by another run"), lock_run(tmp_path):
            pass
    finally:
        other.kill()
        other.join()
    with lock_run(tmp_path):
        pass


def test_the_disk_error_is_found_under_others():
    outer = RuntimeError("outer")
    outer.__cause__ = OSError(errno.ENOSPC, "x")
    assert checkpoint._disk_full(outer)
    assert not checkpoint._disk_full(RuntimeError("outer"))
