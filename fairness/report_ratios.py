"""Rate ratios of a report: every group beside the largest, at equal covariates, with the number of
tests that they are."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .mixed_poisson import (
    Design,
    MixedPoisson,
    fit_mixed_poisson,
    likelihood_ratio_p,
    treatment_design,
)
from .report_data import Grouping, Systems, covariate
from .report_groups import Options
from .statistics import holm

Record = dict[str, Any]

_GROUP = "\0group"
"""In the design; a covariate may be called group."""


def add_ratios(
    record: Record, systems: Systems, grouping: Grouping, options: Options
) -> list[tuple[Record, float]]:
    """Adds to a grouping's record, in each system, whether the groups differ at equal covariates,
    and to each ranked group its rate ratio to the largest one.

    Returns:
      The groups' tests and their p, for `adjust`.
    """
    ranked = [g for g in record["groups"] if g["rank"] is not None]
    for group in record["groups"]:
        group["ratios"] = [None] * len(systems.names)
    record["regression"] = {"reference": None, "adjusted_for": list(options.adjust_for)}
    if len(ranked) < 2:
        return []
    reference = max(ranked, key=lambda g: g["words"])["name"]
    record["regression"]["reference"] = reference
    rows = _Rows(systems, grouping, [g["name"] for g in ranked], options.adjust_for)
    tests: list[tuple[Record, float]] = []
    fits: list[Record] = []
    for k in range(len(systems.names)):
        try:
            full, alone, design = rows.fit(k, reference)
        except ValueError as error:
            fits.append({"p": None, "speakers_differ": None, "reason": str(error)})
            continue
        # A standard deviation of logarithms, as a factor of the rate.
        spread = round(100 * float(np.expm1(full.sigma)), 1)
        fits.append({
            "p": _p(likelihood_ratio_p(full, alone)), "speakers_differ": spread,
            "reason": "" if full.converged else "the fit did not converge",
        })  # fmt: skip
        for group in ranked:
            if group["name"] == reference:
                continue
            found = full.rate_ratio(design.columns.index((_GROUP, group["name"])))
            group["ratios"][k] = {
                "ratio": _ratio(found.ratio), "low": _ratio(found.low), "high": _ratio(found.high),
                "p": _p(found.p),
            }  # fmt: skip
            tests.append((group["ratios"][k], found.p))
    record["regression"]["systems"] = fits
    return tests


def adjust(tests: Sequence[tuple[Record, float]]) -> None:
    """Adds Holm's p over all of the report's tests to each."""
    for (test, _), p in zip(tests, holm([p for _, p in tests]), strict=True):
        test["p_holm"] = _p(float(p))


class _Rows:
    """Errors and words by speaker and covariates, of the speakers of some groups."""

    def __init__(
        self, systems: Systems, grouping: Grouping, names: Sequence[str], columns: Sequence[str]
    ):
        population = systems.population
        able = np.array([name in set(names) for name in grouping.names])
        speaks = grouping.kept & (grouping.index >= 0) & (systems.words > 0)
        speaks &= able[grouping.index]
        kept = np.flatnonzero(speaks[population.owner])
        owner = population.owner[kept]
        values = [covariate(population, column) for column in columns]
        numbers = [np.unique(np.array(v, object)[kept], return_inverse=True)[1] for v in values]
        # Utterances of a speaker with equal covariates are one row.
        keys = np.stack([owner, *numbers], axis=1)
        _, first, row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        count = len(first)
        self.speakers = owner[first]
        self.groups = [grouping.names[grouping.index[s]] for s in self.speakers]
        self.covariates = [
            (c, [v[kept[i]] for i in first]) for c, v in zip(columns, values, strict=True)
        ]
        utterances = systems.counts[:, kept]
        self.words = np.bincount(row.ravel(), utterances[0, :, 3], minlength=count)
        self.errors = [
            np.bincount(row.ravel(), u[:, :3].sum(axis=1), minlength=count) for u in utterances
        ]

    def fit(self, k: int, reference: str) -> tuple[MixedPoisson, MixedPoisson, Design]:
        """System k's model with the groups and without, and the design of the first.

        Raises ValueError where it cannot be fitted.
        """
        given = [(c, v, Counter(v).most_common(1)[0][0]) for c, v in self.covariates]
        design = treatment_design([(_GROUP, self.groups, reference), *given])
        without = [i for i, (column, _) in enumerate(design.columns) if column != _GROUP]
        data = self.errors[k], self.words, self.speakers
        full = fit_mixed_poisson(*data, design.matrix)
        return full, fit_mixed_poisson(*data, design.matrix[:, without]), design


def _ratio(value: float) -> float | None:
    """None where it is beyond all bounds."""
    return round(value, 3) if value < 1e6 else None


def _p(value: float) -> float:
    """To four digits, and not below the last: tails are not known so far out."""
    return max(round(float(value), 4), 1e-4)
