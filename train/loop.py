"""The training loop: a recipe and a folder in, averaged weights out.

    result = train(recipe, Path("runs/mine"))

The loop holds no secrets from a checkpoint: the state, the batch plan and all randomness are
functions of the recipe and the step, so a run that was killed and resumed ends with the parameters
of one that was not, bit for bit. That holds where the compiled program is the same: the same
machine, the same number of devices and of cores that the process may use, the same code and package
versions throughout, and operations that are deterministic, as XLA's were on CPU wherever this was
tried.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..data.audio import SAMPLE_RATE
from ..data.cohort_rows import CohortRows
from ..data.corpus import Corpus, open_corpus, quarantined
from ..data.errors import InputError, Rejected
from ..data.loader import DataConfig, Loader, make_loader
from ..data.oversampling import copies_of, with_replay
from ..data.tokenizer import Tokenizer
from ..models.transducer import channels_of
from .checkpoint import Checkpoints, lock_run, named_disk_errors, require_space
from .goodput import Goodput
from .held import hold_start
from .hosts import is_first, rows_of_process, stops_together, to_host, watched_peers
from .optimizer import make_optimizer
from .progress import RunLog, SilentLog
from .recipe import Recipe, RunRecipe
from .requirements import require_consistent
from .run_folder import claim, own_tokenizer, row_multiple, write_quarantine
from .sharding import batch_sharding, make_mesh, put_batch
from .start import Start, initial_state
from .step import make_train_step, without_adapters
from .trace import Trace
from .validation import Validation, hold_out

NONFINITE_LIMIT = 5
"""Steps in a row with a non-finite gradient that end a run."""


class Batches(Protocol):
    """A loader: endless batches, and what it could not use."""

    quarantine: list[Rejected]

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]: ...


@dataclass(frozen=True)
class Task:
    """What is trained, as the loop sees it: a recogniser or a speaker model."""

    recipe: RunRecipe
    mesh: Mesh
    state: Any
    """Before the first step."""
    places: Any
    """The state's shardings."""
    step: Callable[..., tuple[Any, dict[str, jax.Array]]]
    """Of a state, a batch and `constants`; not yet compiled. Of its metrics, `finite` says whether
    the gradient was."""
    batches: Callable[[int], Batches]
    """The loader from a step on."""
    about: Callable[[Batches], str]
    """Data and batches in words."""
    validate: Callable[[Any], dict[str, float]]
    """Rates of the development set by a state; `rate` is one of them."""
    rate: str
    """wer or eer: shown while it runs, recorded as `dev/wer`."""
    left_out: Sequence[Rejected] = ()
    """What the corpus itself could not use."""
    judge: Callable[[Mapping[str, float], int], None] = lambda rates, step: None
    """Told of every validation but the last; raises InputError where going on is of no use."""
    prepare: Callable[[int, Any], Any] = lambda step, state: state
    """Called with the number of steps done, before the next: what the host does to a state. A
    function of these two alone, or a resumed run would not end as an unbroken one."""
    constants: tuple[Any, ...] = ()
    """Arrays that every step reads and none changes; no part of a checkpoint."""


@dataclass(frozen=True)
class Driven:
    """What a finished loop leaves."""

    state: Any
    rates: dict[str, float]
    seconds: float
    audio_seconds: float


@dataclass(frozen=True)
class TrainResult:
    recipe: Recipe
    graphdef: Any
    params: Any
    """Averaged weights (EMA), nested dicts of arrays; adapters are a part of them."""
    frozen: Any
    tokenizer: Tokenizer
    steps: int
    wer: float | None
    """Of the development set, at the end."""
    seconds: float
    audio_seconds: float
    """Audio seen, padding not counted, by this process's call."""


def train(
    recipe: Recipe,
    run_dir: Path,
    *,
    resume: bool = False,
    start: Start | None = None,
    corpus: Corpus | None = None,
    dev: Corpus | None = None,
    general: Corpus | None = None,
    profile: bool = False,
) -> TrainResult:
    """Trains `recipe` in `run_dir`; `start` gives the weights of `recipe.init_from`.

    `corpus`, `dev` and `general` (of the Fisher information) take the place of what the recipe
    names.

    Raises InputError if the folder holds another run or is in use, if the data cannot be used, if
    the loss stays non-finite, if the disk is full, or if the run was told to stop (its checkpoint
    is written first).
    """
    require_consistent(recipe)
    with opened(run_dir):
        return _train(recipe, run_dir, resume, start, corpus, dev, general, profile)


def _train(
    recipe: Recipe,
    run_dir: Path,
    resume: bool,
    start: Start | None,
    corpus: Corpus | None,
    dev: Corpus | None,
    general: Corpus | None,
    profile: bool,
) -> TrainResult:
    claim(recipe, run_dir, resume)
    corpus = corpus or open_corpus(recipe.data.train, recipe.data.train_split)
    held_out = ""
    if dev is None and recipe.data.dev:
        dev = open_corpus(recipe.data.dev, recipe.data.dev_split)
    elif dev is None:
        corpus, dev, held_out = hold_out(corpus)
    corpus, copies = _mixed(corpus, recipe.data)
    tokenizer = own_tokenizer(recipe, run_dir, corpus, start)
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, vocab_size=tokenizer.vocab_size)
    )
    mesh = make_mesh(recipe.mesh)
    optimizer = make_optimizer(recipe.optimizer, recipe.steps, recipe.adapt)
    graphdef, state, places = initial_state(recipe, mesh, optimizer, corpus, start)
    cohorts = _cohorts(recipe, corpus)
    held = hold_start(recipe, run_dir, state, places, mesh, start, tokenizer, general)
    validation = Validation(graphdef, recipe, dev, tokenizer, mesh)

    part, parts = rows_of_process(mesh)
    rows = mesh.shape["data"] * mesh.shape["fsdp"] * recipe.optimizer.accumulate
    multiple = row_multiple(run_dir, rows)

    def batches(first: int) -> Loader:
        return make_loader(
            corpus,
            tokenizer,
            recipe.data,
            recipe.augment,
            seed=recipe.seed,
            start_step=first,
            multiple=multiple,
            channels=channels_of(recipe.model),
            timed_starts=recipe.loss.turns.start_of_turn,
            copies=copies,
            cohorts=cohorts,
            process_index=part,
            process_count=parts,
        )

    task = Task(
        recipe=recipe,
        mesh=mesh,
        state=state,
        places=places,
        step=make_train_step(graphdef, recipe, optimizer, batch_sharding(mesh)),
        batches=batches,
        about=lambda loader: f"{corpus.name}: {len(corpus):,} utterances, {_plan(loader)}",
        validate=lambda state: {"wer": validation(state.ema, state.frozen)},
        rate="wer",
        judge=lambda rates, step: validation.require_speech(rates["wer"], step, recipe.steps),
        left_out=quarantined(corpus),
        constants=() if held is None else (held,),
    )
    notes = [held_out] if held_out else []
    done = drive(task, run_dir, resume=resume, notes=notes, profile=profile)
    trained = to_host(done.state.ema), to_host(done.state.frozen)
    graphdef, params, frozen = without_adapters(recipe, graphdef, *trained)
    return TrainResult(
        recipe=recipe,
        graphdef=graphdef,
        params=params,
        frozen=frozen,
        tokenizer=tokenizer,
        steps=recipe.steps,
        wer=done.rates["wer"],
        seconds=done.seconds,
        audio_seconds=done.audio_seconds,
    )


def _mixed(corpus: Corpus, data: DataConfig) -> tuple[Corpus, np.ndarray | None]:
    """The corpus with the one that is replayed, and how often each utterance comes in an epoch."""
    replayed = 0
    if data.replay:
        if not 0.0 < data.replay_share < 1.0:
            raise InputError(
                f"--data.replay-share lies between 0 and 1, not {data.replay_share:g}."
            )
        corpus, replayed = with_replay(corpus, open_corpus(data.replay, data.train_split))
    share = data.replay_share
    return corpus, copies_of(corpus, data.oversample, data.balance, replayed=replayed, share=share)


def _cohorts(recipe: Recipe, corpus: Corpus) -> CohortRows | None:
    """Raises InputError where the model is told cohorts and the corpus knows none of them."""
    told = recipe.model.cohort
    if told.kind == "off":
        return None
    rows = CohortRows(told.column, told.values)
    rows.of(corpus)
    return rows


def _plan(loader: Any) -> str:
    return loader.plan.describe()


def drive(
    task: Task,
    run_dir: Path,
    *,
    resume: bool,
    notes: Sequence[str] = (),
    profile: bool = False,
) -> Driven:
    """Runs a task from its newest checkpoint, or from the beginning, to its last step.

    `notes` are sentences for the person who watches; `profile`: leave a trace of a few steps in
    `run_dir/profile`. Raises InputError as `train`.
    """
    recipe, mesh, state = task.recipe, task.mesh, task.state
    checkpoints = Checkpoints(run_dir / "checkpoints", keep=recipe.checkpoints_kept)
    if not resume:
        bytes_of_state = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        require_space(run_dir, bytes_of_state * (recipe.checkpoints_kept + 1))

    first = 0
    notes = list(notes)
    if resume and checkpoints.steps():
        template = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, task.places
        )
        for leaf in jax.tree.leaves(state):
            leaf.delete()  # a device may not have room for two
        first, state, damaged = checkpoints.restore(template)
        notes += damaged

    whole = NamedSharding(mesh, P())
    several = jax.process_count() > 1
    step = stops_together(task.step) if several else task.step
    train_step = jax.jit(step, donate_argnums=0, out_shardings=(task.places, whole))
    loader = task.batches(first)
    left_out = write_quarantine(run_dir, [*task.left_out, *loader.quarantine])
    make_log = RunLog if is_first() else SilentLog
    with make_log(run_dir, recipe.steps, first, rate=task.rate) as log, _stop_signal() as stopped:
        for note in [*notes, *left_out]:
            log.say(note)
        log.say(
            f"{task.about(loader)}; {mesh.size} devices"
            + (f" of {jax.process_count()} processes" if several else "")
            + f"; {recipe.steps:,} steps"
            + (f", resumed at {first:,}" if first else "")
        )
        began, clock = time.monotonic(), Goodput()
        trace = Trace(run_dir / "profile", first if profile else None)
        try:
            state, audio = _run(
                task, train_step, state, loader, first, checkpoints, log, stopped, clock, trace
            )
            for note in write_quarantine(run_dir, [*task.left_out, *loader.quarantine]):
                log.say(note)
            with clock.spent("validation"):
                rates = task.validate(state)
            log.record(recipe.steps, _of_dev(rates))
            with clock.spent("checkpoint"):
                checkpoints.close()
            log.say(clock.sentence())
        finally:
            trace.close()
            clock.close()
        return Driven(state, rates, time.monotonic() - began, audio)


def _of_dev(rates: Mapping[str, float]) -> dict[str, float]:
    return {f"dev/{name}": value for name, value in rates.items()}


def _run(
    task: Task,
    train_step: Callable[..., tuple[Any, dict[str, jax.Array]]],
    state: Any,
    loader: Batches,
    first: int,
    checkpoints: Checkpoints,
    log: RunLog | SilentLog,
    stopped: threading.Event,
    clock: Goodput,
    trace: Trace,
) -> tuple[Any, float]:
    """Steps `first` to the end. Metrics of step n-1 are fetched while step n runs."""
    recipe, mesh = task.recipe, task.mesh
    several = jax.process_count() > 1
    total_audio = window_audio = 0.0
    window_began = time.monotonic()
    bad = 0
    asked = False
    pending: tuple[int, dict[str, jax.Array]] | None = None
    batches: Iterator[Mapping[str, np.ndarray]] = iter(loader)

    def settle(step: int, metrics: dict[str, jax.Array]) -> None:
        nonlocal window_audio, window_began, bad, asked
        asked = several and bool(metrics["stop"])
        finite = bool(metrics["finite"])
        bad = 0 if finite else bad + 1
        if not finite:
            log.say(f"step {step}: the gradient is not finite, so its update was skipped")
        if bad == NONFINITE_LIMIT:
            raise InputError(
                f"training stopped at step {step}: {bad} gradients in a row were not finite; "
                f"the parameters are those of step {step - bad}. Lower --optimizer.peak-lr or "
                f"look at the batches' audio."
            )
        if step % recipe.log_every == 0 or step == recipe.steps:
            values = {k: float(v) for k, v in metrics.items() if k not in ("finite", "stop")}
            now = time.monotonic()
            values["audio_seconds_per_second"] = window_audio / max(now - window_began, 1e-9)
            window_audio, window_began = 0.0, now
            values["goodput"] = clock.shares()["train"]
            log.record(step, values)

    for step in range(first + 1, recipe.steps + 1):
        trace.at(step)
        with clock.spent("data"):
            batch = next(batches)
        seconds = float(batch["sample_lengths"].sum()) / SAMPLE_RATE
        seconds *= jax.process_count()
        if several:
            stop = np.full(len(batch["sample_lengths"]), stopped.is_set(), np.int32)
            batch = {**batch, "stop": stop}
        with clock.spent("train"):
            state, metrics = train_step(
                task.prepare(step - 1, state), put_batch(batch, mesh), *task.constants
            )
        total_audio += seconds
        window_audio += seconds
        if pending is not None:
            settle(*pending)
        pending = (step, metrics)
        last = step == recipe.steps
        # Of several processes all must stop after the same step: as the step before this one said.
        halt = asked if several else stopped.is_set()
        if last or step % recipe.checkpoint_every == 0 or halt:
            settle(*pending)
            pending = None
            with clock.spent("checkpoint"):
                checkpoints.save(step, state)
        if halt and not last:
            checkpoints.wait()
            raise InputError(
                f"training was told to stop; step {step} is saved: go on with --resume."
            )
        if not last and step % recipe.eval_every == 0:
            with clock.spent("validation"):
                rates = task.validate(state)
            log.record(step, _of_dev(rates))
            task.judge(rates, step)
            window_audio, window_began = 0.0, time.monotonic()
    return state, total_audio


@contextmanager
def opened(run_dir: Path) -> Iterator[None]:
    """A run folder for one run: locked, its disk's errors named, lost processes noticed."""
    with (
        lock_run(run_dir) if is_first() else nullcontext(),
        named_disk_errors(run_dir, "the run stopped"),
        watched_peers(run_dir, _end),
    ):
        yield


def _end(sentence: str) -> None:
    """Ends the process from any thread: the main one may wait for a device that waits for ever."""
    print(f"parley: error: {sentence}", file=sys.stderr, flush=True)
    os._exit(2)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """SIGTERM (a pre-empted machine) and Ctrl-C set an event; the loop saves and ends."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
