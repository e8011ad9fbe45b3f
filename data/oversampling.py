"""How often an utterance comes: some cohorts more often, and a share of another corpus beside it.

P(cohort) is proportional to n^beta times a factor, n being the cohort's utterances. What comes of
it is a number of copies of each utterance in an epoch; the plan makes them whole numbers, others in
every epoch. Nothing of a corpus is left out: the rarest of its utterances comes once an epoch, and
the epoch is as much longer as the others come more often.

Source: Dheram et al. 2022, "Toward Fairness in Speech Recognition", arXiv 2207.11345, where the
cohorts that are served worst are oversampled.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .corpus import Corpus, is_endless
from .errors import InputError
from .views import ConcatCorpus, FieldTest, fields_of


def copies_of(
    corpus: Corpus, oversample: str = "", balance: str = "", *, replayed: int = 0, share: float = 0
) -> np.ndarray | None:
    """Copies of each utterance in an epoch, `[len(corpus)]`, fractions among them; None: one each.

    Args:
      corpus: its last `replayed` utterances are another corpus, see `with_replay`.
      oversample: `key=value:factor`, several joined by `&`: utterances whose field admits the value
        (as in a corpus's query) come `factor` times as often. Factors multiply.
      balance: `key:beta`: a cohort is all utterances with one value of the field `key`, and beta
        below 1 makes small ones come more often: 0 all cohorts equally, 1 as they are.
      share: of the utterances of an epoch that the replayed ones make up.

    Raises:
      InputError: what cannot be understood, names a field or value that no utterance has, or is
        asked of a corpus that is drawn anew in every epoch.
    """
    own = len(corpus) - replayed
    if not (oversample or balance or replayed):
        return None
    if is_endless(corpus):
        raise InputError(
            f"{corpus.name} is drawn anew in every epoch, so its utterances cannot be repeated: "
            "leave out --data.oversample, --data.balance and --data.replay."
        )
    weights = np.ones(own)
    if oversample or balance:
        rows = [fields_of(corpus.utterance(i)) for i in range(own)]
        for rule in filter(None, oversample.split("&")):
            weights[_chosen(rows, rule)] *= _factor(rule)
        if balance:
            weights *= _of_cohorts(rows, balance)
    copies = weights / weights.min()
    if replayed:
        each = share / (1.0 - share) * copies.sum() / replayed
        copies = np.concatenate([copies, np.full(replayed, each)])
    return None if (copies == 1.0).all() else copies


def with_replay(corpus: Corpus, general: Corpus) -> tuple[Corpus, int]:
    """Both corpora one after the other, and how many utterances are replayed ones."""
    return ConcatCorpus([corpus, general]), len(general)


def _chosen(rows: Sequence[dict], rule: str) -> list[int]:
    key, equals, rest = rule.partition("=")
    value, colon, _ = rest.rpartition(":")
    if not (key and equals and value and colon):
        raise InputError(
            f"--data.oversample: {rule!r} is not key=value:factor, such as cohort_group=bottom:4."
        )
    _require_field(rows, key, "--data.oversample")
    admits = FieldTest(value)
    found = [i for i, row in enumerate(rows) if admits(row.get(key))]
    if not found:
        raise InputError(
            f"--data.oversample: no utterance has {key}={value}; there are "
            f"{', '.join(_some_values(rows, key))}."
        )
    return found


def _factor(rule: str) -> float:
    return _number(rule.rpartition(":")[2], 0.0, f"--data.oversample: the factor of {rule!r}")


def _of_cohorts(rows: Sequence[dict], balance: str) -> np.ndarray:
    """n^(beta - 1) of each utterance's cohort: n of them make n^beta."""
    key, colon, value = balance.rpartition(":")
    if not (key and colon):
        raise InputError(f"--data.balance: {balance!r} is not key:beta, such as cohort:0.5.")
    beta = _number(value, -1.0, f"--data.balance: beta of {balance!r}")
    _require_field(rows, key, "--data.balance")
    sizes = Counter(str(row.get(key)) for row in rows)
    return np.asarray([sizes[str(row.get(key))] ** (beta - 1.0) for row in rows])


def _number(text: str, above: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not above < number < float("inf"):
        raise InputError(f"{what} must be a number above {above:g}, not {text!r}.")
    return number


def _require_field(rows: Sequence[dict], key: str, option: str) -> None:
    known = {name for row in rows for name in row}
    if key not in known:
        raise InputError(
            f"{option}: no utterance has a field {key!r}; there are {', '.join(sorted(known))}."
        )


def _some_values(rows: Sequence[dict], key: str) -> list[str]:
    return sorted({str(row[key]) for row in rows if row.get(key) is not None})[:12]
