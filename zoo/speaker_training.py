"""What `parley train` does for a speaker model: trains, writes its folder, draws the adversary's
weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.files import replace_file
from .cards import CARD, Card, keep_text, new_card
from .commands_train import Order, inherited, training_record
from .console import remark
from .registry import folder_of

if TYPE_CHECKING:
    from ..train.speakers.training import SpeakerResult
    from ..train.start import StartWeights

WEIGHTS_FILE, WEIGHTS_PLOT = "weights.jsonl", "weights.svg"
_NOTES = (
    "It tells voices like those of its training data apart. A score is no proof of identity: "
    "voices of relatives are alike, recordings can be played back and voices synthesised, and "
    "groups that its training data has few of may be served worse; see the tables."
)


def train_speaker_preset(order: Order, command: str) -> int:
    """Trains and writes `run_dir/model`; returns the exit status."""
    recipe, run_dir = order.recipe, order.run_dir
    import jax

    from ..train.checkpoint import named_disk_errors
    from ..train.hosts import connect
    from ..train.speakers.training import train_speakers
    from .run_report import write_run_report
    from .runtime import set_up

    connect(order.hosts)
    set_up()
    start = speaker_start(recipe.init_from) if recipe.init_from else None
    result = train_speakers(
        recipe, run_dir, resume=order.resume, start=start, profile=order.profile
    )
    folder = run_dir / "model"
    if jax.process_index() != 0:  # of several machines, one writes
        return 0
    with named_disk_errors(folder, "the trained model was not written"):
        export_speaker_model(folder, result, command, recipe.init_from)
        if result.weights:
            write_weights(run_dir, result)
        remark(f"curves are in {write_run_report(run_dir)}")
    remark(f"the model is in {folder}; try: parley verify a.wav b.wav --model {folder}")
    print(folder)
    return 0


def speaker_start(name_or_path: str) -> "StartWeights":
    """Weights and statistics of another speaker model. Raises InputError as `zoo.load`."""
    from ..train.start import StartWeights
    from .speaker_package import read_speaker_model

    package = read_speaker_model(folder_of(name_or_path))
    return StartWeights(package.params, package.frozen)


def export_speaker_model(folder: Path, result: "SpeakerResult", command: str, start: str) -> None:
    """Writes the model folder of a finished run; what a person wrote into its card stays.

    `start`: as `commands_train.export` has it.
    """
    from .speaker_package import Threshold, write_speaker_model

    recipe = result.recipe
    card = keep_text(folder / CARD, trained_speaker_card(result, command, start))
    data, split = (
        (recipe.data.dev, recipe.data.dev_split)
        if recipe.data.dev
        else (recipe.data.train, "a tenth held out")
    )
    threshold = Threshold(round(result.threshold, 4), round(result.eer, 5), data, split)
    write_speaker_model(folder, recipe, result.params, result.frozen, threshold, card)


def trained_speaker_card(result: "SpeakerResult", command: str, start: str) -> Card:
    from .presets import speaker_facts_of

    training = training_record(result, command)
    facts = speaker_facts_of(result.recipe, status="trained", training=training, **inherited(start))
    return new_card(facts, notes=_NOTES)


def write_weights(run_dir: Path, result: "SpeakerResult") -> None:
    """What the adversary weighed how, a line a recording, and a picture of it."""
    from .weights_plot import write_weights_plot

    lines = [json.dumps(asdict(w)) for w in result.weights]
    replace_file(run_dir / WEIGHTS_FILE, "\n".join(lines) + "\n")
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    write_weights_plot(records, result.weights, run_dir / WEIGHTS_PLOT)
    top = result.weights[0]
    remark(
        f"the adversary's weights are in {run_dir / WEIGHTS_FILE} and {run_dir / WEIGHTS_PLOT}; "
        f"the heaviest is {top.id} at {top.weight:.2f} (2 is the mean)"
    )
