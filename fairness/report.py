"""A report on how differently a recogniser, or several of them, serve groups of speakers.

    record = report(pair_systems([scores], ["A"]), [column_grouping(population, "accent")])

The record is for JSON; `report_page` writes it out for people.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .report_data import Grouping, Systems, missing_metadata
from .report_groups import (
    Options,
    changes_of,
    counts_of,
    grouping_record,
    rates_of,
    tabulate,
)
from .report_ratios import add_ratios, adjust
from .resampling import draw_rates, non_inferiority

Record = dict[str, Any]

_DEFAULT = Options()


def report(
    systems: Systems,
    groupings: Sequence[Grouping],
    options: Options = _DEFAULT,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> Record:
    """Computes all of it.

    Args:
      on_step: called as often as there are groupings, and once more.
    """
    record: Record = {
        "systems": list(systems.names),
        "options": {
            "min_speakers": options.min_speakers,
            "margin": round(100 * options.margin, 3),
            "draws": options.draws,
            "permutations": options.permutations,
            "seed": options.seed,
        },
        **_overall(systems, options),
        "missing": missing_metadata(systems.population),
        "groupings": [],
    }
    on_step()
    tests: list[tuple[Record, float]] = []
    for grouping in groupings:
        found = grouping_record(systems, grouping, options)
        tests += add_ratios(found, systems, grouping, options)
        record["groupings"].append(found)
        on_step()
    adjust(tests)
    record["tests"] = len(tests)
    return record


def _overall(systems: Systems, options: Options) -> Record:
    """Of all speakers, whether they are of a group or not."""
    everyone = np.zeros(len(systems.scores.speakers), np.int64)
    table = tabulate(systems, everyone, 1)
    drawn = draw_rates(table.errors, table.words, draws=options.draws, seed=options.seed)
    held = [
        non_inferiority(
            table.errors[[0, k]],
            table.words,
            margin=options.margin,
            draws=options.draws,
            seed=options.seed,
        ).holds
        for k in range(1, len(systems.names))
    ]
    return {
        "data": {
            **counts_of(systems, everyone, 1)[0],
            "without_speaker": systems.population.without_speaker,
            "not_in_all": systems.left_out,
        },
        "overall": rates_of(table, drawn)[0],
        "overall_changes": [
            {**change, "not_inferior": holds}
            for change, holds in zip(changes_of(table, drawn)[0], held, strict=True)
        ],
    }
