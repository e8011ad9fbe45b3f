"""Exporting a model: its inference programs as StableHLO, which run without Parley's model code.

The jitted functions of `recognizer.py` are lowered for every platform at once, with the weights as
an argument: they lie in the folder once. Rows of a batch are a symbolic dimension; its length is
not, since convolutions and attention choose their way by it, so each of `packing`'s lengths is a
program. A stream has one program for a single stream and one for many, for each of its block sizes.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from ..data.audio import SAMPLE_RATE
from ..data.errors import InputError
from ..data.files import replacing_folder
from ..models.cost import state_bytes
from .calibration import CALIBRATION
from .cards import CARD
from .exported import MANIFEST, TOKENIZER, WEIGHTS, Manifest, Program
from .package import ModelPackage
from .packing import BUCKET_SECONDS
from .programs import STREAM_BLOCKS
from .recognizer import _recognize, _start, _step

PLATFORMS = ("cpu", "cuda", "tpu")
MANY = 32
"""Rows from which on one program serves any number of streams. Below, the choices that the model
makes by the number of rows (small matrices are filled up, for one) would not be settled."""


def export_model(
    package: ModelPackage, folder: Path, *, on_program: Callable[[float], None] = lambda _: None
) -> Manifest:
    """Writes an exported folder whole, in place of an earlier export.

    Args:
      package: a model as read from its folder.
      on_program: is told the share of the work done, 0 to 1, after every program.

    Raises:
      InputError: `folder` holds something else.
    """
    check_target(folder)
    model = package.model()
    tree = (package.params, package.frozen)
    weights = {
        # Below the pair's own index; the names of weights.safetensors.
        ".".join(str(getattr(key, "key", key)) for key in path[1:]): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    with replacing_folder(folder.resolve()) as fresh, _without_paths():
        for name in (WEIGHTS, TOKENIZER, CARD, CALIBRATION):
            source = package.folder / name
            # A model may be without a card, or a calibrator.
            if source.exists() or name not in (CARD, CALIBRATION):
                (fresh / name).write_bytes(source.read_bytes())
        programs = []
        listed = list(_programs(package, model.samples_per_step))
        for program, function, arguments in listed:
            lower = jax_export.export(jax.jit(function), platforms=PLATFORMS)
            (fresh / program.file).write_bytes(lower(*arguments).serialize())
            programs.append(program)
            on_program(len(programs) / len(listed))
        manifest = Manifest(
            name=package.recipe.name,
            parley=version("parley-asr"),
            jax=jax.__version__,
            platforms=PLATFORMS,
            sample_rate=SAMPLE_RATE,
            samples_per_step=model.samples_per_step,
            frame_s=model.frame_s,
            tail=package.recipe.model.frontend.tail,
            weights=weights,
            programs=tuple(programs),
            sha256={
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(fresh.iterdir())
            },
            channels=model.channels,
        )
        (fresh / MANIFEST).write_text(manifest.to_json())
    return manifest


def check_target(folder: Path) -> None:
    """Raises InputError unless the folder is absent, empty or an earlier export."""
    if folder.is_dir():
        if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
            raise InputError(
                f"{folder} is not empty and no earlier export: give a folder that does not exist."
            )
    elif folder.exists():
        raise InputError(f"{folder} is a file: give a folder that does not exist.")


@contextmanager
def _without_paths() -> Iterator[None]:
    """No source locations in programs: they would tell the paths of the machine that made them."""
    before = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def _programs(
    package: ModelPackage, samples_per_step: int
) -> Iterator[tuple[Program, Callable[..., Any], tuple[Any, ...]]]:
    """(description, function of lists of arrays, shapes of its arguments)."""
    graphdef, variables = package.graphdef, (package.params, package.frozen)
    leaves, structure = jax.tree.flatten(variables)
    weights = [_shape(jnp.float32, *leaf.shape) for leaf in leaves]

    def recognize(weights, samples, lengths):
        return tuple(_recognize(graphdef, jax.tree.unflatten(structure, weights), samples, lengths))

    for seconds in BUCKET_SECONDS:
        length = seconds * SAMPLE_RATE
        [rows] = jax_export.symbolic_shape("b")
        batch = _shape(jnp.int16, rows, length), _shape(jnp.int32, rows)
        program = Program("recognize", f"recognize-{seconds}s.stablehlo", length, (1, None))
        yield program, recognize, (weights, *batch)
    if state_bytes(package.recipe.model) is None:  # it cannot stream
        return

    one = jax.eval_shape(lambda v: _start(graphdef, v, 1), variables)
    state_leaves, state_structure = jax.tree.flatten(one)

    def start(weights):
        return jax.tree.leaves(_start(graphdef, jax.tree.unflatten(structure, weights), 1))

    def step(weights, state, samples, active, fresh):
        variables = jax.tree.unflatten(structure, weights)
        before = jax.tree.unflatten(state_structure, state)
        found, _, after = _step(graphdef, variables, samples, before, active=active, fresh=fresh)
        return tuple(found), jax.tree.leaves(after)

    yield Program("start", "start.stablehlo", 0, (1, 1)), start, (weights,)
    for blocks in STREAM_BLOCKS:
        length = blocks * samples_per_step
        [many] = jax_export.symbolic_shape("b", constraints=[f"b >= {MANY}"])
        for rows, bounds, name in ((1, (1, 1), "one"), (many, (MANY, None), "many")):
            # A channel's leaf has `channels` rows for each stream.
            state = [_shape(x.dtype, rows * x.shape[0], *x.shape[1:]) for x in state_leaves]
            flags = _shape(jnp.bool_, rows), _shape(jnp.bool_, rows)
            program = Program("step", f"step-{blocks}-{name}.stablehlo", length, bounds)
            yield program, step, (weights, state, _shape(jnp.int16, rows, length), *flags)


def _shape(dtype: Any, *shape: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
