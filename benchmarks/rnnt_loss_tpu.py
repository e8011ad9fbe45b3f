"""What the TPU compiler makes of `transducer_loss` on several chips, without a TPU.

    python -m parley.benchmarks.rnnt_loss_tpu
    python -m parley.benchmarks.rnnt_loss_tpu --topology v5e:4x4 --shape 16,250,60,640,1024
    python -m parley.benchmarks.rnnt_loss_tpu --json

Loss and gradient in float32 are compiled with the batch split over all chips of a topology and the
output layer on each. Printed for a chip: temporary memory, and how many collective operations the
program holds. An all-gather or all-to-all would mean that rows leave their chip; the one all-reduce
that must be there sums the gradient of the output layer. One chip with its share of the batch
stands beside it: what splitting costs in memory is the difference.

Needs libtpu, the compiler for TPU: `pip install "jax[tpu]"`, best in an environment of its own,
since JAX looks for a TPU at every start once it is installed.
"""

import argparse
import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from ..zoo.console import remark, stdout, table

Record = dict[str, Any]

COLLECTIVES = ("all-gather", "all-to-all", "all-reduce", "reduce-scatter", "collective-permute")
_TOPOLOGIES = ("v5e:2x4", "v5p:2x2x2")
_SHAPE = (8, 250, 60, 640, 1024)
_NO_LIBTPU = (
    "parley: libtpu cannot be imported: install it in an environment of its own by "
    '`pip install "jax[tpu]"`, in the version of JAX that is used here.'
)


def collectives(text: str) -> dict[str, int]:
    """How often each collective operation occurs in a compiled program's text."""
    return {
        name: len(re.findall(rf"\s{name}(?:-start)?\(", text))  # `-done` belongs to a start
        for name in COLLECTIVES
    }


def compile_loss(chips: Sequence[Any], shape: Sequence[int]) -> Record:
    """Compiles loss and gradient for chips that take `shape` (B T U D V) each."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from ..train.losses import transducer_loss
    from ..train.losses.transducer import OTHER_CHUNK_BYTES

    rows, n_frames, n_labels, width, n_classes = shape
    rows *= len(chips)
    mesh = Mesh(np.array(chips), ("data",))

    def split(*dims: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)

    def loss(f: Any, g: Any, w: Any, labels: Any, frames: Any, lengths: Any) -> jax.Array:
        return transducer_loss(
            f,
            g,
            lambda a, b: jnp.tanh(a + b) @ w,
            labels,
            frames,
            lengths,
            sharding=NamedSharding(mesh, PartitionSpec("data")),
            # Not the chunk of the platform that this compiles on.
            chunk=OTHER_CHUNK_BYTES // (4 * (n_classes + width)),
        ).mean()

    compiled: Any = (
        jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
        .lower(
            split(rows, n_frames, width),
            split(rows, n_labels + 1, width),
            jax.ShapeDtypeStruct(
                (width, n_classes), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec())
            ),
            split(rows, n_labels, dtype=jnp.int32),
            split(rows, dtype=jnp.int32),
            split(rows, dtype=jnp.int32),
        )
        .compile()
    )
    return {
        "chips": len(chips),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "collectives": collectives(compiled.as_text()),
    }


def show(records: Sequence[Record], shape: Sequence[int], version: str) -> None:
    rows, n_frames, n_labels, width, n_classes = shape
    dense = 4 * rows * n_frames * (n_labels + 1) * n_classes
    console = stdout()
    console.print(
        f"jax {version}, compiled for TPU, not run. A chip has B{rows} T{n_frames} U{n_labels} "
        f"D{width} V{n_classes}: dense logits of {dense / 2**20:,.0f} MiB."
    )
    numbers = ("chips", "temporary MiB a chip", "of dense logits", *COLLECTIVES)
    made = table("topology", *numbers, right=numbers)
    for r in records:
        made.add_row(
            r["topology"],
            str(r["chips"]),
            f"{r['temporary_bytes'] / 2**20:,.1f}",
            f"{r['temporary_bytes'] / dense:.3f}",
            *(str(r["collectives"][name]) for name in COLLECTIVES),
        )
    console.print(made)
    for r in records:
        held = [n for n in ("all-gather", "all-to-all") if r["collectives"][n]]
        if r["chips"] > 1:
            said = f"holds {' and '.join(held)}" if held else "no all-gather, no all-to-all"
            console.print(f"{r['topology']}: {said}.")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m parley.benchmarks.rnnt_loss_tpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--topology", action="append", metavar="NAME", help=f"default: {', '.join(_TOPOLOGIES)}"
    )
    parser.add_argument(
        "--shape", metavar="B,T,U,D,V", default=",".join(map(str, _SHAPE)), help="of one chip"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*){4}", given.shape):
        parser.error(f"--shape must be five numbers above 0, B,T,U,D,V; it is {given.shape!r}")
    shape = [int(n) for n in given.shape.split(",")]
    if importlib.util.find_spec("libtpu") is None:
        print(_NO_LIBTPU, file=sys.stderr)
        sys.exit(2)
    # Before JAX starts: no metadata server is asked, and no TPU is looked for.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    from jax.experimental import topologies

    records = []
    for name in given.topology or _TOPOLOGIES:
        try:
            chips = topologies.get_topology_desc(name, platform="tpu").devices
        except Exception as error:  # whatever the plugin raises for a name it does not know
            parser.error(f"--topology {name} is not known to libtpu: {str(error)[:200]}")
        for some in (chips[:1], chips):
            remark(f"{name}: compiling for {len(some)} of {len(chips)} devices")
            records.append({"topology": name, **compile_loss(some, shape)})
    if given.json:
        print(json.dumps({"jax": jax.__version__, "shape": shape, "rows": records}, indent=1))
    else:
        show(records, shape, jax.__version__)


if __name__ == "__main__":
    main()
