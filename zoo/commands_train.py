"""`parley train`."""

import datetime
import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import tyro

from .arguments import parse
from .cards import CARD, Card, Training, keep_text, new_card, read_card
from .console import remark
from .registry import as_folder, folder_of, unknown_name

if TYPE_CHECKING:
    from ..train.hosts import HostsConfig
    from ..train.loop import TrainResult
    from ..train.recipe import Recipe
    from ..train.speakers.recipe import SpeakerRecipe
    from ..train.speakers.training import SpeakerResult
    from ..train.start import Start

R = TypeVar("R", "Recipe", "SpeakerRecipe")

_USAGE = """usage: parley train PRESET|FOLDER [--run-dir DIR] [--resume] [fields by their paths]

Trains a preset and writes the model's folder; named by a model's folder, it trains that model
further. A run that was stopped goes on with --resume and the same options; it ends with the
parameters that an unbroken run would have.

--data.train without --data.dev: an embedded corpus or LibriSpeech is validated on its own dev
split; of other recordings, a tenth of the speakers is held out for it (of the utterances, if the
speakers are unknown or fewer than ten). The same ones are held out in every run.

examples:
  parley train rnnt-tiny
  parley train rnnt-tiny --run-dir runs/mine --steps 4000 --optimizer.peak-lr 2e-3
  parley train rnnt-tiny --data.train my.jsonl
  parley train rnnt-tiny --data.train "my.jsonl?split=train" --data.dev "my.jsonl?split=dev"
  parley train parakeet --data.train my.jsonl --steps 2000
  parley train rnnt-tiny --resume
  parley train speaker-tiny --adversary.kind pairs

Over many hosts (docs/scale.md) the same command runs on each, with a run folder that all of them
see. Cloud TPU, GKE, Slurm and Open MPI say who is who; elsewhere, on the second of two:
  parley train rnnt-30m --coordinator first:8476 --processes 2 --process-id 1

presets: {presets}

All fields of a preset's recipe and their values: parley train PRESET --help
"""


def train_command(argv: list[str]) -> int:
    from ..configs import presets, speaker_presets

    recognisers, speakers = presets(), speaker_presets()
    known: dict[str, Any] = {**recognisers, **speakers}
    if not argv or argv[0].startswith("-"):
        wants_help = bool({"-h", "--help"} & set(argv))
        text = _USAGE.format(presets=", ".join(known))
        print(text, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name, *rest = argv
    if name not in known and as_folder(name) is not None:
        known[name] = recognisers[name] = _recipe_of_folder(name)
    if name not in known:
        raise unknown_name(name, list(known), "preset", "parley train --help")
    command = shlex.join(["parley", "train", *(word for word in argv if word != "--resume")])
    if name in speakers:
        from .speaker_training import train_speaker_preset

        return train_speaker_preset(override(speakers[name], rest), command)
    return run_training(override(recognisers[name], rest), command)


def run_training(order: "Order", command: str) -> int:
    """Trains and writes `run_dir/model`; returns the exit status."""
    recipe, run_dir = order.recipe, order.run_dir
    import jax

    from ..train.checkpoint import named_disk_errors
    from ..train.hosts import connect
    from ..train.loop import train
    from .run_report import write_run_report
    from .runtime import set_up

    connect(order.hosts)
    set_up()
    start = start_from(recipe.init_from) if recipe.init_from else None
    result = train(recipe, run_dir, resume=order.resume, start=start, profile=order.profile)
    folder = run_dir / "model"
    if jax.process_index() != 0:  # of several machines, one writes
        return 0
    with named_disk_errors(folder, "the trained model was not written"):
        export(folder, result, command, recipe.init_from)
        remark(f"curves are in {write_run_report(run_dir)}")
    remark(f"the model is in {folder}; try: parley transcribe {folder} recording.wav")
    print(folder)
    return 0


def _recipe_of_folder(name: str) -> "Recipe":
    """To go on with a model: its own recipe, with its weights to begin from."""
    from .package import read_recipe

    recipe = read_recipe(folder_of(name))
    return replace(recipe, init_from=name)


class Order(NamedTuple):
    """What a command line asks for."""

    recipe: Any
    """With the fields that it overrides."""
    run_dir: Path
    resume: bool
    hosts: "HostsConfig"
    profile: bool


def override(preset: R, argv: list[str], prog: str = "") -> Order:
    """Reads `parley train`'s options over a preset.

    `prog`: what the help calls the command; by default, that which trains the preset.
    """
    from ..train.hosts import HostsConfig

    kind: Any = type(preset)

    @dataclass(frozen=True)
    class TrainArguments:
        """Trains the preset; each option below is a field of its recipe, by its path."""

        # The kind of encoder is the preset's: without subcommands its fields keep their paths.
        recipe: Annotated[
            kind,  # pyright: ignore[reportInvalidTypeForm]
            tyro.conf.arg(name=""),
            tyro.conf.AvoidSubcommands,
        ]
        run_dir: Path
        """Holds checkpoints, metrics, TensorBoard files and, at the end, the folder model."""
        resume: bool = False
        """Go on from the newest checkpoint of the run folder."""
        profile: bool = False
        """Leave a trace of five steps in the run folder's profile, for TensorBoard or Perfetto."""
        hosts: Annotated[HostsConfig, tyro.conf.arg(name="")] = field(default_factory=HostsConfig)

    default = TrainArguments(preset, Path("runs") / preset.name)
    prog = prog or f"parley train {preset.name}"
    given = parse(TrainArguments, argv, prog, default=default)
    recipe: Any = given.recipe
    if is_given("--data.train", argv) and not is_given("--data.dev", argv):
        # The preset's development set says nothing about other data.
        recipe = replace(recipe, data=replace(recipe.data, dev=_dev_of(recipe.data.train)))
    return Order(recipe, given.run_dir, given.resume, given.hosts, given.profile)


def is_given(option: str, argv: list[str]) -> bool:
    return any(word.partition("=")[0] == option for word in argv)


def _dev_of(train: str) -> str:
    """The corpus spec to validate on: itself if it has a dev split, else '', which holds out.

    What names recordings or speakers of the training split finds none in another one.
    """
    from ..data.corpus import EMBEDDED, parse_spec

    parts = [parse_spec(part.strip()) for part in train.split(" + ")]
    if any({"cohorts", "transcripts", "speaker", "id"} & query.keys() for _, query in parts):
        return ""
    sources = [source for source, _ in parts]
    splits = ("librispeech:", "voxceleb:")
    own = all(source in EMBEDDED or source.startswith(splits) for source in sources)
    # Validated on what a ramp leads to, not on where it begins.
    return re.sub(r"&ramp=\d+|(?<=\?)ramp=\d+&", "", train) if own else ""


def start_from(name_or_path: str) -> "Start":
    """Weights, statistics and tokeniser of another model. Raises InputError as `zoo.load`."""
    from ..train.start import Start
    from .package import read_model

    package = read_model(folder_of(name_or_path))
    data = package.recipe.data
    return Start(package.params, package.frozen, package.tokenizer, (data.train, data.train_split))


def export(folder: Path, result: "TrainResult", command: str, start: str) -> None:
    """Writes the model folder of a finished run; what a person wrote into its card stays.

    `start`: the model that the run began from, if any; a row of an experiment may have another name
    for it than its recipe.
    """
    from .package import write_model

    card = keep_text(folder / CARD, trained_card(result, command, start))
    write_model(
        folder,
        result.recipe,
        result.params,
        result.frozen,
        result.tokenizer,
        card,
    )


def trained_card(result: "TrainResult", command: str, start: str) -> Card:
    from .presets import facts_of

    training = training_record(result, command)
    facts = facts_of(result.recipe, status="trained", training=training, **inherited(start))
    return new_card(facts)


def inherited(start: str) -> dict[str, str]:
    """Licence and language of the model that a run began from: they hold for what comes of it."""
    if not start:
        return {}
    path = folder_of(start) / CARD
    if not path.exists():
        return {"license": "unknown", "language": "unknown"}
    facts = read_card(path).facts
    return {"license": facts.license, "language": facts.language}


def training_record(result: "TrainResult | SpeakerResult", command: str) -> Training:
    """How the weights of a finished run came about."""
    from .runtime import device_name

    recipe = result.recipe
    return Training(
        command=command,
        data=recipe.data.train,
        date=datetime.date.today().isoformat(),
        device=device_name(),
        steps=result.steps,
        seconds=round(result.seconds, 1),
        audio_hours=round(result.audio_seconds / 3600, 2),
        init_from=recipe.init_from,
    )
