"""RNN-T loss from encoder and prediction outputs: the logits [B, T, U+1, V] never exist at once.

The joint runs on a chunk of cells at a time. Forward, only the two log-probabilities of each cell
and its log-normaliser leave a chunk; backward, each chunk's logits are computed again, turned into
their gradient, and pulled through the joint. The joint's matmuls are paid four times instead of
three; in exchange memory is that of one chunk, and what is worked on stays in the cache.

**Padding is not computed.** The cells of all rows are cut into tiles of 4 frames by 4 labels. Those
that hold a cell of some row are listed, and a chunk takes the next K of the list, from whatever
rows they are: the loop ends where the list does. So the cost is that of the cells there are, to
the rounding of a tile, however the rows' lengths differ.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from .arcs import Window, check_shapes, classes_of, penalised, pick_arcs, pull_arcs
from .joint import Joint, check_sides, open_joint, zeros_wide
from .lattice import lattice_loss

TILE = (4, 4)
"""Frames and labels. Smaller, and reading tiles costs more than they save; larger, and more of them
is padding."""
CHUNK_BYTES = {"cpu": 3 << 20}
"""Of a chunk's logits and the joint's inputs in float32, by platform. On a CPU what stays in its
cache: half is no faster, and twice as much slower, for large joints."""
OTHER_CHUNK_BYTES = 48 << 20
"""Elsewhere, matmuls want to be large. Not measured."""


def transducer_loss(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    fastemit: ArrayLike = 0.0,
    delay_penalty: ArrayLike = 0.0,
    label_penalties: ArrayLike | None = None,
    window: Window | None = None,
    hat: bool = False,
    sharding: NamedSharding | None = None,
    chunk: int | None = None,
) -> Array:
    """Returns -log P(labels | frames) of each row: `rnnt_loss` of the joint's logits.

    Args:
      encoded: [B, T, J], encoder outputs.
      predicted: [B, U+1, J'], prediction network outputs; the first one stands before any label.
      joint: maps [K, t, 1, J] and [K, 1, u, J'] to logits [K, t, u, V], each cell by itself,
        whatever row and place it comes from, and without side effects. Parameters it closes over
        (a merged module's) get their gradient.
      labels: [B, U] int, without blanks and start symbol; U may be 0.
      encoded_lengths: [B], frames of each row, 0 to T. No frames give loss and gradient 0.
      label_lengths: [B], labels of each row, 0 to U. More labels than frames are legal.
      blank: the blank's class.
      fastemit: the gradient of label arcs is multiplied by 1 + fastemit, the value stays.
      delay_penalty, label_penalties, window, hat: as `rnnt_loss` has them.
      sharding: how rows lie on a mesh (of axes of type Auto): P(axes), the axes that split the
        batch. Each device then works through its own rows, and gradients of what the joint closes
        over are summed over devices once. Other axes of the mesh (a vocabulary's) are left to the
        compiler. Without it, the compiler gathers rows that are spread over devices.
      chunk: cells whose logits are held at a time; None takes `default_chunk`. Value and gradient
        do not depend on it beyond rounding.

    Returns:
      [B], as `rnnt_loss` does; the lattice is computed in float32 also for bfloat16 logits
      (float64 for float64), and so are sums of gradients over chunks. Padding may hold anything,
      NaN too; its gradient is exactly 0.

    Raises:
      ValueError: if shapes do not fit each other, blank is not a class, or chunk is below 1.
    """
    check_sides(encoded, predicted)
    n_batch, n_frames, _ = encoded.shape
    width = predicted.shape[1]
    labels, encoded_lengths, label_lengths = map(
        jnp.asarray, (labels, encoded_lengths, label_lengths)
    )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 cell, got {chunk}")
    if n_frames == 0 or n_batch == 0:
        return jnp.zeros(n_batch, jnp.promote_types(encoded.dtype, jnp.float32))
    parameters, static = _prepare(encoded, predicted, joint, blank, hat, chunk, sharding)
    shape = n_batch, width, static.n_classes
    check_shapes(*shape, labels, encoded_lengths, label_lengths, blank)

    def of_rows(encoded, predicted, parameters, labels, frames, lengths, fastemit, penalties):
        classes = classes_of(labels, lengths)
        arcs: Any = _arc_log_probs(static, encoded, predicted, parameters, classes, frames, lengths)
        log_blank, log_label = arcs
        log_label = penalised(log_label, frames, **penalties)
        return lattice_loss(log_blank, log_label, frames, lengths, fastemit=fastemit)

    penalties = {
        "delay_penalty": delay_penalty,
        "label_penalties": label_penalties,
        "window": window,
    }
    kinds = {"delay_penalty": False, "label_penalties": True, "window": True}
    run = _by_rows(of_rows, sharding, (True, True, False, True, True, True, False, kinds))
    lengths = encoded_lengths, label_lengths
    return run(encoded, predicted, parameters, labels, *lengths, fastemit, penalties)


def transducer_arcs(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    labels: ArrayLike,
    encoded_lengths: ArrayLike,
    label_lengths: ArrayLike,
    *,
    blank: int = 0,
    hat: bool = False,
    sharding: NamedSharding | None = None,
    chunk: int | None = None,
) -> tuple[Array, Array]:
    """Returns the log-probabilities of blank and of the next label in every cell, [B, T, U+1] each.

    Arguments as those of `transducer_loss`, which is a function of these alone. Padding is 0, and
    so is its gradient; the last column of a row has no next label.

    Raises:
      ValueError: as `transducer_loss`.
    """
    check_sides(encoded, predicted)
    labels, encoded_lengths, label_lengths = map(
        jnp.asarray, (labels, encoded_lengths, label_lengths)
    )
    parameters, static = _prepare(encoded, predicted, joint, blank, hat, chunk, sharding)
    shape = encoded.shape[0], predicted.shape[1], static.n_classes
    check_shapes(*shape, labels, encoded_lengths, label_lengths, blank)

    def of_rows(encoded, predicted, parameters, labels, frames, lengths):
        classes = classes_of(labels, lengths)
        return _arc_log_probs(static, encoded, predicted, parameters, classes, frames, lengths)

    run = _by_rows(of_rows, sharding, (True, True, False, True, True, True))
    return run(encoded, predicted, parameters, labels, encoded_lengths, label_lengths)


def _by_rows(function: Any, sharding: NamedSharding | None, split: Any) -> Any:
    """`function`, each device on its own rows where `sharding` splits them.

    split: for every argument, whether it has rows; all results do.
    """
    axes = _batch_axes(sharding)
    if sharding is None or not axes:
        return function
    rows = P(tuple(axes))
    return jax.shard_map(
        function,
        mesh=sharding.mesh,
        in_specs=jax.tree.map(lambda yes: rows if yes else P(), split),
        out_specs=rows,
        axis_names=set(axes),
        check_vma=False,
    )


def default_chunk(n_classes: int, width: int, platform: str | None = None) -> int:
    """Returns the cells of a chunk: `CHUNK_BYTES` for V logits and J inputs of the joint each.

    `platform`: that the program is compiled for; None takes JAX's own.
    """
    most = CHUNK_BYTES.get(platform or jax.default_backend(), OTHER_CHUNK_BYTES)
    return max(1, most // (4 * (n_classes + width)))


def tiles_of(rows: int, n_frames: int, width: int) -> int:
    """Returns the tiles of rows that are full: at most so many hold cells."""
    return rows * -(-n_frames // TILE[0]) * -(-width // TILE[1])


def chunks_of(
    rows: int, n_frames: int, width: int, n_classes: int, inputs: int, platform: str | None = None
) -> int:
    """Returns how often the loops over chunks turn where `rows` rows are full.

    `width` is U+1, `inputs` J, and the chunk `default_chunk`.
    """
    most = tiles_of(rows, n_frames, width)
    tiles = max(1, min(default_chunk(n_classes, inputs, platform) // math.prod(TILE), most))
    return -(-most // tiles)


class _Static(NamedTuple):
    """What is known when the program is traced."""

    joint: Callable[..., Array]  # joint(f, g, *parameters)
    n_classes: int
    dtype: Any  # of the arcs
    blank: int
    hat: bool
    tiles: int  # in a chunk


def _prepare(
    encoded: Array,
    predicted: Array,
    joint: Joint,
    blank: int,
    hat: bool,
    chunk: int | None,
    sharding: NamedSharding | None,
) -> tuple[list[Any], _Static]:
    """Returns what the joint closes over, and what is known of it."""
    n_batch, n_frames, _ = encoded.shape
    shards = math.prod(_batch_axes(sharding).values())
    # A program may be compiled for other chips than those that it is traced beside.
    mesh = None if sharding is None else sharding.mesh
    platform = mesh.devices.flat[0].platform if isinstance(mesh, Mesh) else None
    t, u = TILE

    def example(tiles: int) -> tuple[Any, Any]:
        return (
            jax.ShapeDtypeStruct((tiles, t, 1, encoded.shape[2]), encoded.dtype),
            jax.ShapeDtypeStruct((tiles, 1, u, predicted.shape[2]), predicted.dtype),
        )

    cell: Any = jax.eval_shape(joint, *example(1))
    if cell.shape[:-1] != (1, t, u):
        raise ValueError(
            f"joint must give logits [K, t, u, V], got {cell.shape} for K=1, t={t}, u={u}"
        )
    n_classes = cell.shape[-1]
    most = tiles_of(-(-n_batch // shards), n_frames, predicted.shape[1])
    cells = chunk or default_chunk(n_classes, encoded.shape[2], platform)
    tiles = max(1, min(cells // (t * u), most))
    pure, parameters = open_joint(joint, *example(tiles))
    dtype = jnp.promote_types(cell.dtype, jnp.float32)
    return parameters, _Static(pure, n_classes, dtype, blank, hat, tiles)


def _batch_axes(sharding: NamedSharding | None) -> dict[str, int]:
    """The axes of the mesh that split the batch, with their sizes; those of one device do not."""
    names = sharding.spec[0] if sharding is not None and len(sharding.spec) else None
    if sharding is None or names is None:
        return {}
    sizes = sharding.mesh.shape
    names = (names,) if isinstance(names, str) else names
    return {name: sizes[name] for name in names if sizes[name] > 1}


class _Tiles(NamedTuple):
    """The tiles that hold cells, in the order of rows, frames, labels; then what pads the list.

    `row`, `frame`, `label` [N] say where each begins, `frames` and `labels` [N] how many of either
    are real; `place` [B, T', U'] is each tile's number in the list, N for one that is not in it.
    `chunks` says how many chunks hold tiles.
    """

    row: Array
    frame: Array
    label: Array
    frames: Array
    labels: Array
    place: Array
    chunks: Array


def _list_tiles(static: _Static, shape: tuple[int, int, int], frames: Array, labels: Array):
    n_batch, n_frames, width = shape
    t, u = TILE
    high, wide = -(-n_frames // t), -(-width // u)
    frames, positions = jnp.clip(frames, 0, n_frames), jnp.clip(labels + 1, 1, width)
    rows_high = -(-frames // t)
    rows_wide = jnp.where(frames > 0, -(-positions // u), 0)
    ends = jnp.cumsum(rows_high * rows_wide)
    starts = ends - rows_high * rows_wide

    number = jnp.arange(-(-n_batch * high * wide // static.tiles) * static.tiles)
    listed = number < ends[-1]
    row = jnp.where(listed, jnp.searchsorted(ends, number, side="right"), 0)
    along = jnp.where(listed, number - starts[row], 0)
    down, right = jnp.divmod(along, jnp.maximum(rows_wide[row], 1))
    y, x = jnp.arange(high)[None, :, None], jnp.arange(wide)[None, None, :]
    inside = (y < rows_high[:, None, None]) & (x < rows_wide[:, None, None])
    place = starts[:, None, None] + y * rows_wide[:, None, None] + x
    return _Tiles(
        row=row,
        frame=down * t,
        label=right * u,
        frames=jnp.where(listed, jnp.clip(frames[row] - down * t, 0, t), 0),
        labels=jnp.where(listed, jnp.clip(positions[row] - right * u, 0, u), 0),
        place=jnp.where(inside, place, number.size),
        chunks=-(-ends[-1] // static.tiles),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _arc_log_probs(
    static: _Static,
    encoded: Array,
    predicted: Array,
    parameters: list[Any],
    classes: Array,
    frames: Array,
    labels: Array,
) -> tuple[Array, Array]:
    """Returns the log-probabilities of blank and label arcs, each [B, T, U+1]; 0 in padding."""
    out, _ = _arc_log_probs_fwd(static, encoded, predicted, parameters, classes, frames, labels)
    return out


def _arc_log_probs_fwd(
    static: _Static,
    encoded: Array,
    predicted: Array,
    parameters: list[Any],
    classes: Array,
    frames: Array,
    labels: Array,
):
    shape = (encoded.shape[0], encoded.shape[1], predicted.shape[1])
    inputs = _Inputs(*_whole_tiles(encoded, predicted, classes))
    tiles = _list_tiles(static, shape, frames, labels)

    def visit(chunk: Array, arcs: tuple[Array, ...]):
        part = _part(tiles, chunk, static.tiles)
        f, g, wanted = _read(inputs, part)
        new = pick_arcs(
            _masked(static.joint, part)(f, g, parameters), wanted, static.blank, static.hat
        )
        put = partial(lax.dynamic_update_slice_in_dim, start_index=chunk * static.tiles, axis=0)
        return tuple(put(a, n) for a, n in zip(arcs, new, strict=True))

    empty = jnp.zeros((tiles.row.size, *TILE), static.dtype)
    log_blank, log_label, normaliser = lax.fori_loop(0, tiles.chunks, visit, (empty,) * 3)
    residuals = (encoded, predicted, parameters, classes, frames, labels, normaliser)
    return (_from_tiles(log_blank, tiles, shape), _from_tiles(log_label, tiles, shape)), residuals


def _arc_log_probs_bwd(static: _Static, residuals, cotangents: tuple[Array, Array]):
    encoded, predicted, parameters, classes, frames, labels, normaliser = residuals
    shape = (encoded.shape[0], encoded.shape[1], predicted.shape[1])
    inputs = _Inputs(*_whole_tiles(encoded, predicted, classes))
    tiles = _list_tiles(static, shape, frames, labels)
    d_blank, d_label = (_to_tiles(c, tiles) for c in cotangents)

    def visit(chunk: Array, sums):
        d_encoded, d_predicted, d_parameters = sums
        part = _part(tiles, chunk, static.tiles)
        f, g, wanted = _read(inputs, part)

        def cut(x: Array) -> Array:
            return lax.dynamic_slice_in_dim(x, chunk * static.tiles, static.tiles)

        logits, pull = jax.vjp(_masked(static.joint, part), f, g, parameters)
        d_logits = pull_arcs(
            logits, cut(normaliser), wanted, static.blank, cut(d_blank), cut(d_label), static.hat
        )
        d_f, d_g, d_more = pull(d_logits)
        return (
            _add(d_encoded, part.row, part.frame, d_f),
            _add(d_predicted, part.row, part.label, d_g),
            jax.tree.map(lambda s, d: s + d.astype(s.dtype), d_parameters, d_more),
        )

    sums = zeros_wide((inputs.encoded, inputs.predicted, parameters))
    d_encoded, d_predicted, d_parameters = lax.fori_loop(0, tiles.chunks, visit, sums)
    return (
        d_encoded[:, : shape[1]].astype(encoded.dtype),
        d_predicted[:, : shape[2]].astype(predicted.dtype),
        jax.tree.map(lambda d, x: d.astype(x.dtype), d_parameters, parameters),
        None,
        None,
        None,
    )


_arc_log_probs.defvjp(_arc_log_probs_fwd, _arc_log_probs_bwd)


class _Inputs(NamedTuple):
    """Both sides of the joint and the classes of the label arcs, padded to whole tiles."""

    encoded: Array
    predicted: Array
    classes: Array


def _whole_tiles(encoded: Array, predicted: Array, classes: Array) -> tuple[Array, Array, Array]:
    t, u = -encoded.shape[1] % TILE[0], -predicted.shape[1] % TILE[1]
    return (
        jnp.pad(encoded, ((0, 0), (0, t), (0, 0))),
        jnp.pad(predicted, ((0, 0), (0, u), (0, 0))),
        jnp.pad(classes, ((0, 0), (0, u))),
    )


def _part(tiles: _Tiles, chunk: Array, size: int) -> _Tiles:
    """The tiles of a chunk."""

    def cut(x: Array) -> Array:
        return lax.dynamic_slice_in_dim(x, chunk * size, size)

    row, frame, label, frames, labels = map(cut, tiles[:5])
    return _Tiles(row, frame, label, frames, labels, tiles.place, tiles.chunks)


def _read(inputs: _Inputs, part: _Tiles) -> tuple[Array, Array, Array]:
    """What a chunk's tiles see: f [K, t, J], g [K, u, J'], classes [K, u]."""
    wanted = _slices(inputs.classes[:, :, None], part.row, part.label, TILE[1])
    return (
        _slices(inputs.encoded, part.row, part.frame, TILE[0]),
        _slices(inputs.predicted, part.row, part.label, TILE[1]),
        wanted[:, :, 0],
    )


def _slices(x: Array, row: Array, start: Array, size: int) -> Array:
    """x [B, N, D] -> [K, size, D]."""
    where = lax.GatherDimensionNumbers(
        offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1)
    )
    at = jnp.stack([row, start], axis=1)
    return lax.gather(x, at, where, (1, size, x.shape[2]), mode="clip")


def _add(total: Array, row: Array, start: Array, parts: Array) -> Array:
    """`_slices` the other way: adds parts [K, size, D] to total [B, N, D], in its type."""
    where = lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2),
        inserted_window_dims=(0,),
        scatter_dims_to_operand_dims=(0, 1),
    )
    at = jnp.stack([row, start], axis=1)
    return lax.scatter_add(total, at, parts.astype(total.dtype), where, mode="clip")


def _to_tiles(x: Array, tiles: _Tiles) -> Array:
    """[B, T, U+1] -> [N, t, u] in the order of the list; tiles without cells are left out."""
    (t, u), (n_batch, high, wide) = TILE, tiles.place.shape
    x = jnp.pad(x, ((0, 0), (0, high * t - x.shape[1]), (0, wide * u - x.shape[2])))
    x = x.reshape(n_batch, high, t, wide, u).transpose(0, 1, 3, 2, 4).reshape(-1, t, u)
    empty = jnp.zeros((tiles.row.size, t, u), x.dtype)
    return empty.at[tiles.place.reshape(-1)].set(x, mode="drop")


def _from_tiles(x: Array, tiles: _Tiles, shape: tuple[int, int, int]) -> Array:
    """[N, t, u] -> [B, T, U+1], 0 where a tile is not in the list."""
    (t, u), (n_batch, high, wide) = TILE, tiles.place.shape
    x = x.at[tiles.place.reshape(-1)].get(mode="fill", fill_value=0)
    x = x.reshape(n_batch, high, wide, t, u).transpose(0, 1, 3, 2, 4)
    return x.reshape(n_batch, high * t, wide * u)[:, : shape[1], : shape[2]]


def _masked(joint: Callable[..., Array], part: _Tiles):
    """Returns the joint of a chunk's tiles: [K, t, J] and [K, u, J'] -> [K, t, u, V].

    Padding is set to 0: NaN there would come back through the joint as 0 times NaN.
    """
    t = jnp.arange(TILE[0])[None, :, None] < part.frames[:, None, None]
    u = jnp.arange(TILE[1])[None, :, None] < part.labels[:, None, None]

    def logits(f: Array, g: Array, parameters: list[Any]) -> Array:
        f, g = jnp.where(t, f, 0), jnp.where(u, g, 0)
        return joint(f[:, :, None], g[:, None], *parameters)

    return logits
