"""Runs over several processes of one machine, each with virtual CPU devices of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CODE = """
import sys
sys.path.insert(0, {tests!r})
import conftest
import json
import os
from pathlib import Path
from parley.data.errors import InputError
from parley.train import hosts, loop
from parley.train.recipe import recipe_from_dict
from tones import ToneCorpus, untrained

job = json.loads(sys.argv[1])
hosts.connect(hosts.HostsConfig(**job["hosts"]))
if "ends" in job and job["ends"]["process"] == job["hosts"]["process_id"]:
    class Ends(loop.SilentLog):
        def record(self, step, values):
            if step == job["ends"]["step"]:
                os.kill(os.getpid(), job["ends"]["signal"])
    loop.SilentLog = Ends
import jax
import numpy as np
recipe = recipe_from_dict(job["recipe"])
try:
    result = loop.train(
        recipe, Path(job["folder"]),
        resume=job["resume"], corpus=ToneCorpus(), dev=ToneCorpus(16, seed=1),
        start=untrained(recipe) if recipe.init_from else None, general=ToneCorpus(24, seed=2),
    )
except InputError as error:
    print(f"parley: error: {{error}}", file=sys.stderr, flush=True)
    sys.exit(2)
if jax.process_index() == 0:
    leaves = [np.asarray(x) for x in jax.tree.leaves(result.params)]
    np.savez(job["out"], *leaves, wer=result.wer)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(job: dict, processes: int, devices: int, process_id: int, port: int) -> subprocess.Popen:
    """One process of a run; `job`: recipe, folder, resume, out.

    `ends` in it: {process, step, signal} of one, not the first, that ends itself when it knows the
    loss of a step.
    """
    import json

    known = {"coordinator": f"127.0.0.1:{port}", "processes": processes, "process_id": process_id}
    flags = os.environ.get("XLA_FLAGS", "").replace("device_count=8", f"device_count={devices}")
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            CODE.format(tests=str(TESTS)),
            json.dumps({**job, "hosts": known}),
        ],
        env=os.environ | {"PYTHONPATH": str(TESTS), "XLA_FLAGS": flags},
        stderr=subprocess.PIPE,
        text=True,
    )


def run(job: dict, processes: int, devices: int) -> list[tuple[int, str]]:
    """(exit status, stderr) of each process, to their end."""
    port = free_port()
    started = [start(job, processes, devices, i, port) for i in range(processes)]
    return ended(started)


def ended(started: list[subprocess.Popen]) -> list[tuple[int, str]]:
    try:
        said = [process.communicate(timeout=560)[1] for process in started]
        return [(p.returncode, text) for p, text in zip(started, said, strict=True)]
    finally:
        for process in started:
            process.kill()
