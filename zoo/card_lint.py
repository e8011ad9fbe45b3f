"""Whether a card can be trusted: its form, its figures, and where each of them is from."""

import datetime
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..data.errors import InputError
from .cards import CARD, Card, Facts, Measurement, read_card, render, write_card
from .registry import Entry, card
from .speaker_cards import SpeakerMeasurement
from .speaker_cards import eval_result as speaker_eval_result

EXPERIMENTS = Path(__file__).parents[1] / "docs" / "results"
"""Results of experiments, in the source tree; an installed package has none."""
_FREE = frozenset(
    ("name", "description", "status", "license", "language", "training", "source", "family")
)
"""Facts that no shapes tell."""


def lint_model(entry: Entry, *, experiments: Path = EXPERIMENTS) -> list[str]:
    """What is wrong with the card of a registered model; [] if nothing is."""
    if entry.folder is not None:
        return lint_folder(entry.folder, experiments=experiments)
    # A preset's card is made when it is asked for.
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / CARD
        write_card(path, card(entry.name))
        return [f"{entry.name}: {what}" for what in _problems(read_card(path), path, experiments)]


def lint_folder(folder: Path, *, experiments: Path = EXPERIMENTS) -> list[str]:
    """What is wrong with the card in a model's folder, each in a sentence that names the file."""
    path = folder / CARD
    try:
        found = read_card(path)
    except InputError as error:
        return [str(error)]
    problems = [*_problems(found, path, experiments), *_against_recipe(found.facts, folder)]
    return [f"{path}: {problem}" for problem in problems]


def described(found: Card, folder: Path) -> Card:
    """The card with what the shapes of its model's recipe say: parts, parameters, cost."""
    counted = _counted(folder)
    if counted is None:
        return found
    said = {f.name: getattr(counted, f.name) for f in fields(Facts) if f.name not in _FREE}
    return replace(found, facts=replace(found.facts, **said))


def _problems(found: Card, path: Path, experiments: Path) -> Iterator[str]:
    results = (*found.results, *found.verification)
    if found.facts.status == "trained":
        yield from () if found.facts.training else ["trained, and nothing says how."]
        yield from () if results else ["trained, and nothing has been measured."]
    elif found.facts.status == "untrained" and (results or found.speed or found.facts.training):
        yield "a preset without weights has no numbers."
    for result in (
        *results,
        *found.speed,
        *([found.facts.training] if found.facts.training else []),
    ):
        yield from _origin(result)
    for result in found.results:
        yield from _word_figures(result)
    for result in found.verification:
        yield from _speaker_figures(result)
    yield from _round_trip(found, path)
    yield from _against_experiment(found, experiments)
    if render(found) != path.read_text(encoding="utf-8"):
        yield "its generated text is not that of its figures: run parley card render."


def _origin(result: Any) -> Iterator[str]:
    """Every number has command, data, date and device."""
    what = getattr(result, "name", "the training")
    for field in ("command", "date", "device"):
        if not getattr(result, field):
            yield f"{what}: no {field}."
    if not (getattr(result, "data", "") or getattr(result, "name", "")):
        yield f"{what}: no data."
    try:
        day = datetime.date.fromisoformat(result.date)
        if day > datetime.date.today() + datetime.timedelta(days=1):
            yield f"{what}: {result.date} has not come yet."
    except ValueError:
        yield f"{what}: {result.date!r} is no date such as 2026-01-31."
    try:
        program = shlex.split(result.command)[:1]
    except ValueError:
        program = []
    if program not in (["parley"], ["python"], ["make"]):
        yield f"{what}: {result.command[:60]!r} is no command that could be run again."


def _word_figures(r: Measurement) -> Iterator[str]:
    errors = r.substitutions + r.deletions + r.insertions
    if r.words <= 0:
        yield f"{r.name}: no words, so no error rate."
    elif abs(r.wer - 100 * errors / r.words) > 0.0051:
        yield f"{r.name}: {errors} errors in {r.words} words are not {r.wer:g} %."
    if "--data" in r.command and r.data not in shlex.split(r.command):
        yield f"{r.name}: its command measures other data than {r.data}."
    yield from _interval(r.name, r.wer, r.low, r.high)
    for column, groups in r.groups.items():
        words = sum(g.get("words", 0) for g in groups.values())
        if words > r.words:
            yield f"{r.name}, by {column}: the groups have {words} words of {r.words}."
        elif words == r.words:
            total = sum(g["wer"] * g["words"] for g in groups.values()) / max(words, 1)
            if abs(total - r.wer) > 0.011:
                yield f"{r.name}, by {column}: the groups' mean is {total:.2f} %, not {r.wer:g} %."
        for value, g in groups.items():
            yield from _interval(
                f"{r.name}, {column} {value}", g["wer"], g.get("low"), g.get("high")
            )


def _speaker_figures(r: SpeakerMeasurement) -> Iterator[str]:
    yield from _interval(r.name, r.eer, r.low, r.high)
    if not 0 <= r.eer <= 100:
        yield f"{r.name}: {r.eer:g} % is no error rate."
    for column, groups in r.groups.items():
        if sum(g.get("targets", 0) for g in groups.values()) > r.targets:
            yield f"{r.name}, by {column}: the groups have more trials than there are."


def _interval(what: str, rate: float, low: float | None, high: float | None) -> Iterator[str]:
    if (low is None) != (high is None):
        yield f"{what}: an interval has two ends."
    elif low is not None and high is not None and not low <= rate <= high:
        yield f"{what}: {rate:g} % lies outside its interval, {low:g} to {high:g}."


def _round_trip(found: Card, path: Path) -> Iterator[str]:
    """huggingface_hub reads the file as it was meant, and writes it so that we read the same."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import ModelCardData

    from .cards import eval_result

    try:
        theirs = ModelCard.load(path)
    except Exception as error:  # of whatever kind: it is their verdict on the file
        yield f"huggingface_hub cannot read it ({type(error).__name__})."
        return
    assert isinstance(theirs.data, ModelCardData)
    meant = [eval_result(r) for r in found.results]
    meant += [speaker_eval_result(r) for r in found.verification]
    read = [
        {key: getattr(r, key) for key in expected}
        for r, expected in zip(theirs.data.eval_results or [], meant, strict=False)
    ]
    # The hub groups results by data set: their order may be another.
    if sorted(map(_plain, read)) != sorted(map(_plain, meant)):
        yield "huggingface_hub reads other results than its metadata mean."
    with tempfile.TemporaryDirectory() as made:
        again = Path(made) / CARD
        theirs.save(again)
        if replace(read_card(again), text="") != replace(found, text=""):
            yield "written by huggingface_hub, it is another card."


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _against_experiment(found: Card, experiments: Path) -> Iterator[str]:
    """A model that is a row of an experiment scores in both what it scores in either."""
    training = found.facts.training
    words = training.command.split() if training else []
    if words[:2] != ["parley", "experiment"] or "--only" not in words[:-1]:
        return
    path = experiments / f"{Path(words[2]).name}.json"
    if not path.is_file():
        return
    row = json.loads(path.read_text())["rows"].get(words[words.index("--only") + 1], {})
    for name, said in row.get("evaluations", {}).items():
        for r in found.results:
            same = (r.data, r.split) == (said["data"], said["split"])
            if same and abs(r.wer - said.get("wer", r.wer)) > 0.0051:
                yield f"{r.name}: {r.wer:g} %, and {path.name} has {said['wer']:g} % ({name})."


def _against_recipe(facts: Facts, folder: Path) -> Iterator[str]:
    """What the recipe's shapes say is what the card says."""
    try:
        counted = _counted(folder)
    except InputError as error:
        yield str(error)
        return
    for f in fields(Facts) if counted else ():
        said, value = getattr(facts, f.name), getattr(counted, f.name)
        if f.name not in _FREE and said != value:
            yield f"{f.name} is {said!r}, and the recipe's is {value!r}: run parley card render."


def _counted(folder: Path) -> Facts | None:
    """Facts of a model's recipe; None of an exported model, which has none."""
    if not (folder / "recipe.json").is_file():
        return None
    from .package import read_recipe
    from .presets import facts_of, speaker_facts_of
    from .speaker_package import is_speaker_folder, read_speaker_recipe

    if is_speaker_folder(folder):
        return speaker_facts_of(read_speaker_recipe(folder))
    return facts_of(read_recipe(folder))
