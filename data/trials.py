"""Trial lists: pairs of recordings, each of one speaker or of two.

Files are as VoxCeleb's: a line `1 enrolled.wav tested.wav` for one speaker, `0 ...` for two. Names
are what a corpus calls its utterances (`Utterance.id`): of a manifest or folder, the file's path.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .corpus import Corpus, Utterance
from .errors import InputError
from .files import replace_file


class Trial(NamedTuple):
    same: bool
    enrol: str
    test: str


class PairedTrials(NamedTuple):
    """Trials over a corpus's utterances, as arrays [K]."""

    same: np.ndarray
    enrol: np.ndarray
    """Indices of utterances."""
    test: np.ndarray


def read_trials(path: Path) -> list[Trial]:
    """Raises InputError where the file cannot be read, a line is no trial, or a kind is absent."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"trial list {path} cannot be read ({error}); check the path.") from None
    trials = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise InputError(
                f"{path}:{number} is no trial: a line is 1 or 0 and the names of two recordings."
            )
        trials.append(Trial(fields[0] == "1", fields[1], fields[2]))
    if len({trial.same for trial in trials}) < 2:
        raise InputError(
            f"trial list {path} needs trials of one speaker (1) and trials of two (0)."
        )
    return trials


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Raises InputError for a name with a blank in it, which would be read as two."""
    lines = []
    for same, enrol, test in trials:
        for name in (enrol, test):
            if len(name.split()) != 1:
                raise InputError(
                    f"a trial list cannot name {name!r}, for blanks end a name: rename it, or give "
                    "the manifest's rows an id without."
                )
        lines.append(f"{int(same)} {enrol} {test}\n")
    replace_file(path, "".join(lines))


def pair_up(trials: Sequence[Trial], corpus: Corpus, source: str) -> PairedTrials:
    """The trials as indices of the corpus.

    Args:
      source: what to call the list in an error.

    Raises:
      InputError: a trial names a recording that the corpus does not have, or says of two
        recordings something else than their speakers do.
    """
    known = {corpus.utterance(i).id: i for i in range(len(corpus))}
    wanted = {name for trial in trials for name in (trial.enrol, trial.test)}
    missing = sorted(wanted - known.keys())
    if missing:
        raise InputError(
            f"{source} names {missing[0]}, which {corpus.name} does not have ({len(missing):,} of "
            f"{len(wanted):,} recordings are missing): give the corpus that the list was made for."
        )
    for trial in trials:
        speakers = [corpus.utterance(known[name]).speaker for name in (trial.enrol, trial.test)]
        if all(speakers) and (speakers[0] == speakers[1]) != trial.same:
            raise InputError(
                f"{source} says {int(trial.same)} of {trial.enrol} and {trial.test}, and "
                f"{corpus.name} has them by {speakers[0]} and {speakers[1]}: correct one of them."
            )
    return PairedTrials(
        np.array([trial.same for trial in trials]),
        np.array([known[trial.enrol] for trial in trials]),
        np.array([known[trial.test] for trial in trials]),
    )


def make_trials(
    corpus: Corpus,
    *,
    targets: int = 40,
    others: int = 120,
    alike: str = "gender",
    seed: int = 0,
) -> PairedTrials:
    """Trials for any corpus whose speakers are known; the same for the same corpus and seed.

    Args:
      targets: pairs of one speaker's recordings, for each speaker; fewer where he has not so many.
      others: pairs with somebody else's, for each speaker. Half of them with speakers of the same
        value of `alike`, where there are such: what sets two genders apart is easily heard.

    No pair comes twice, in either order.

    Raises:
      InputError: fewer than two speakers, or nobody with two recordings.
    """
    by_speaker: dict[str, list[int]] = defaultdict(list)
    value: dict[str, str] = {}
    for i in range(len(corpus)):
        utterance = corpus.utterance(i)
        if utterance.speaker:
            by_speaker[utterance.speaker].append(i)
            value[utterance.speaker] = group_of(utterance, alike)
    names = sorted(by_speaker)
    if len(names) < 2 or max(len(items) for items in by_speaker.values()) < 2:
        raise InputError(
            f"{corpus.name}: trials need two speakers, and two recordings of one of them; the "
            "manifest's field is called speaker."
        )
    made: dict[tuple[int, int], bool] = {}
    for number, name in enumerate(names):
        rng = np.random.default_rng((seed, number))
        own = by_speaker[name]
        for enrol, test in _pairs_within(own, targets, rng):
            made[enrol, test] = True
        strangers = [other for other in names if other != name]
        same = [other for other in strangers if value[name] and value[other] == value[name]]
        halves = [(same, others // 2), (strangers, others - others // 2)] if same else [
            (strangers, others)
        ]  # fmt: skip
        for people, count in halves:
            for _ in range(count):
                other = by_speaker[people[int(rng.integers(len(people)))]]
                enrol, test = int(rng.choice(own)), int(rng.choice(other))
                if (enrol, test) not in made and (test, enrol) not in made:
                    made[enrol, test] = False
    pairs = np.array(list(made))
    return PairedTrials(np.array(list(made.values())), pairs[:, 0], pairs[:, 1])


def group_of(utterance: Utterance, column: str) -> str:
    """The utterance's value in a column of the metadata; '' where unknown."""
    value = utterance.speaker if column == "speaker" else utterance.metadata.get(column)
    return "" if value is None else str(value)


def name_trials(paired: PairedTrials, corpus: Corpus) -> list[Trial]:
    """Trials by name, to be written."""
    return [
        Trial(bool(same), corpus.utterance(int(a)).id, corpus.utterance(int(b)).id)
        for same, a, b in zip(*paired, strict=True)
    ]


def _pairs_within(
    items: Sequence[int], count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """`count` different pairs of different items, or all there are."""
    first, second = np.triu_indices(len(items), 1)
    chosen = rng.permutation(len(first))[:count]
    pairs = zip(first[chosen].tolist(), second[chosen].tolist(), strict=True)
    return [(items[a], items[b]) for a, b in pairs]
