"""Plans made in a process of their own.

The compiler for TPU must be found before JAX starts, and no other program should see it: with
libtpu installed, every start of JAX looks for a TPU.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.errors import InputError
from ..train.plan_chips import parse_topology

if TYPE_CHECKING:
    from ..train.recipe import Recipe

LIBTPU_FOLDER = Path("~/.cache/parley/libtpu")
"""Where it is looked for, besides the environment that the command runs in."""


def run_plans(
    recipes: "Sequence[Recipe]",
    topologies: Sequence[str],
    seconds: float | None = None,
    libtpu: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Answers of `train.plan_compile` to one recipe and topology after the other, as they come.

    Raises InputError where there is no libtpu, and for what cannot be planned.
    """
    from ..train.recipe import recipe_to_dict

    jobs = [
        {"recipe": recipe_to_dict(recipe), "topology": topology, "seconds": seconds}
        for recipe, topology in zip(recipes, topologies, strict=True)
    ]
    environment = _environment(topologies, libtpu)
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "parley.train.plan_compile"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(jobs))
            process.stdin.close()
            for line in process.stdout:
                answer = json.loads(line)
                if "error" in answer:
                    raise InputError(answer["error"])
                yield answer["plan"]
            if process.wait() != 0:
                said.seek(0)
                last = [line for line in said.read().splitlines() if line.strip()] or ["no message"]
                raise InputError(
                    f"the compiler's process ended with status {process.returncode} "
                    f"({last[-1][:300]}); take a smaller batch or another topology."
                )
        finally:
            process.kill()
            process.wait()


def _environment(topologies: Sequence[str], libtpu: Path | None) -> dict[str, str]:
    """Of the process: a host without accelerators, with the compiler that the topologies need."""
    planned = [parse_topology(topology) for topology in topologies]
    # There is no chip that two processes could fight for: no metadata server, no lock.
    quiet = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    variables = dict(os.environ, JAX_PLATFORMS="cpu", **quiet)
    most = max((count for chip, count in planned if not chip.is_tpu), default=1)
    flags = variables.get("XLA_FLAGS", "")
    variables["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={most}".strip()
    if any(chip.is_tpu for chip, _ in planned):
        folder = _libtpu_folder(libtpu)
        if folder is not None:
            path = [str(folder), *filter(None, [variables.get("PYTHONPATH")])]
            variables["PYTHONPATH"] = os.pathsep.join(path)
    return variables


def _libtpu_folder(given: Path | None) -> Path | None:
    """The folder that libtpu lies in; None: it is importable as things are."""
    for folder in (given, LIBTPU_FOLDER):
        if folder is not None and (folder.expanduser() / "libtpu").is_dir():
            return folder.expanduser()
    if given is None and importlib.util.find_spec("libtpu") is not None:
        return None
    where = f"{given} holds no libtpu" if given else "it is not here"
    raise InputError(
        f"compiling for TPU takes libtpu, and {where}: pip install --no-deps --target "
        f"{LIBTPU_FOLDER} '{_libtpu_wanted()}', or the extra parley-asr[tpu-plan] in an "
        f"environment of its own."
    )


def _libtpu_wanted() -> str:
    """The version that fits this JAX, as JAX itself says."""
    wanted = (line.partition(";")[0].strip() for line in requires("jax") or ())
    return next((name for name in wanted if name.startswith("libtpu")), "libtpu")
