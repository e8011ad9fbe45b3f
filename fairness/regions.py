"""Regions of a map: a tree over longitude and latitude that parts speakers by word error rate.

Each split is the one that takes away most of the weighted variance of the speakers' rates, for two
sides of n and m words n m / (n + m) times the squared difference of their rates ("Reducing
Geographic Disparities in Automatic Speech Recognition via Elastic Weight Consolidation", Trinh et
al., Interspeech 2022, arXiv 2207.07850, whose regions number 126; or of their Poisson deviance).
The tree grows best split first. Its leaves are boxes, and these are all that is kept.

Longitudes do not wrap: a region that lies across the 180th meridian is parted there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from ..data.errors import InputError
from .cohorts import checked_array
from .population import Population

MAX_REGIONS = 126
MIN_SPEAKERS = 50
MIN_WORDS = 5000
LONGITUDE, LATITUDE = "longitude", "latitude"

Criterion = Literal["squared_error", "poisson"]


@dataclass(frozen=True)
class Regions:
    """Boxes of the map, without gap or overlap.

    Attributes:
      names: K of them, numbered as the tree parts the map.
      boxes: [K, 4] float64, degrees: west, east, south, north; the western and southern edges
        belong to the neighbour. Infinite where there is none.
    """

    kind: ClassVar[str] = "regions"
    names: tuple[str, ...]
    boxes: np.ndarray

    def assign(self, population: Population) -> np.ndarray:
        """See `Cohorts`; a speaker without coordinates is of no region."""
        return self.locate(*coordinates(population))

    def locate(self, longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """The region of each place [S]; -1 for nan."""
        # The tree has seen coordinates in this precision, and its edges lie between such numbers.
        x, y = (np.asarray(c, np.float32).astype(np.float64) for c in (longitude, latitude))
        found = np.full(len(x), -1)
        for k, (west, east, south, north) in enumerate(self.boxes):
            found[(x > west) & (x <= east) & (y > south) & (y <= north)] = k
        return found

    def fields(self) -> dict[str, Any]:
        """See `Cohorts`."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Cohorts`."""
        return {"boxes": self.boxes}

    @classmethod
    def restore(
        cls, names: tuple[str, ...], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Self:
        """See `Cohorts`."""
        boxes = checked_array(arrays, "boxes", (len(names), 4), np.float64)
        west, east, south, north = boxes.T
        if not ((west < east).all() and (south < north).all()):  # nan is refused too
            raise ValueError("a box has no inside")
        for k in range(1, len(boxes)):
            over = (west[:k] < east[k]) & (west[k] < east[:k])
            if (over & (south[:k] < north[k]) & (south[k] < north[:k])).any():
                raise ValueError("boxes overlap")
        return cls(names, boxes)


def coordinates(population: Population) -> tuple[np.ndarray, np.ndarray]:
    """Speakers' longitudes and latitudes [S]; both nan where either is missing.

    Raises:
      InputError: they are not in the metadata, or are no degrees.
    """
    found = []
    for column, most in ((LONGITUDE, 180.0), (LATITUDE, 90.0)):
        values = population.numbers(column)
        wrong = np.flatnonzero(np.abs(values) > most)
        if len(wrong):
            raise InputError(
                f"the {column} of speaker {population.speakers[wrong[0]]} is "
                f"{values[wrong[0]]:g}: give degrees from -{most:g} to {most:g}."
            )
        found.append(values)
    longitude, latitude = found
    missing = np.isnan(longitude) | np.isnan(latitude)
    return np.where(missing, np.nan, longitude), np.where(missing, np.nan, latitude)


def fit_regions(
    longitude: np.ndarray,
    latitude: np.ndarray,
    errors: np.ndarray,
    words: np.ndarray,
    *,
    max_regions: int = MAX_REGIONS,
    min_speakers: int = MIN_SPEAKERS,
    min_words: int = MIN_WORDS,
    criterion: Criterion = "squared_error",
) -> Regions:
    """Grows the tree.

    Args:
      longitude, latitude: [S], degrees; a speaker with nan is left out.
      errors, words: [S], a speaker's totals; who has no words is left out.
      min_speakers, min_words: of every region.

    Raises:
      InputError: one region only can be made.
    """
    from sklearn.tree import DecisionTreeRegressor

    kept = np.isfinite(longitude) & np.isfinite(latitude) & (words > 0)
    places = np.stack([longitude[kept], latitude[kept]], axis=1).astype(np.float32)
    weights, rates = words[kept].astype(np.float64), errors[kept] / words[kept]
    total = float(weights.sum())
    # Half a word less, so that rounding refuses no leaf of exactly as many.
    least = max(min_words - 0.5, 0.0) / max(total, 1.0)
    names: tuple[str, ...] = ()
    if least <= 0.5 and len(places) >= 2 * min_speakers and rates.any():
        tree = DecisionTreeRegressor(
            criterion=criterion,
            max_leaf_nodes=max_regions,
            min_samples_leaf=min_speakers,
            min_weight_fraction_leaf=least,
            random_state=0,
        ).fit(places, rates, sample_weight=weights)
        boxes = _leaves(tree.tree_)
        width = len(str(len(boxes)))
        names = tuple(f"region-{k:0{width}d}" for k in range(1, len(boxes) + 1))
    if len(names) < 2:
        raise InputError(
            f"the {len(places):,} discovery speakers with coordinates, {total:,.0f} words and "
            f"{int(errors[kept].sum()):,} errors make one region only, for each needs "
            f"{min_speakers:,} speakers and {min_words:,} words: give more speakers, or lower "
            "--min-region-speakers and --min-region-words."
        )
    return Regions(names, boxes)


def _leaves(tree: Any) -> np.ndarray:
    """Boxes [K, 4] of a scikit-learn tree's leaves, from left to right."""
    boxes: list[list[float]] = []
    waiting = [(0, [-np.inf, np.inf, -np.inf, np.inf])]
    while waiting:
        node, box = waiting.pop()
        if tree.children_left[node] < 0:
            boxes.append(box)
            continue
        edge, axis = float(tree.threshold[node]), 2 * int(tree.feature[node])
        below, above = box.copy(), box.copy()
        below[axis + 1] = above[axis] = edge
        waiting.append((int(tree.children_right[node]), above))
        waiting.append((int(tree.children_left[node]), below))
    return np.array(boxes, np.float64)
