"""Cohorts as folders: what was written is read, and what was not is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from parley.data.errors import InputError
from parley.fairness.clusters import Clusters
from parley.fairness.cohorts import (
    ColumnCohorts,
    Ranking,
    column_cohorts,
    read_cohorts,
    write_cohorts,
)
from parley.fairness.population import Population, population_of
from parley.fairness.regions import Regions
from parley.fairness.units import UnitCohorts

BOXES = np.array([[-np.inf, 0, -np.inf, np.inf], [0, np.inf, -np.inf, 5], [0, np.inf, 5, np.inf]])
CENTRES = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
KINDS = {
    "regions": Regions(("a", "b", "c"), BOXES),
    "clusters": Clusters(("a", "b", "c"), CENTRES, ("speaker-tiny", "0f")),
    "columns": ColumnCohorts(("a", "b", "c"), ("accent", "gender")),
    "units": UnitCohorts(("in", "out"), "zip", (("10", "11"), ("20",))),
}


def ranking_of(names: tuple[str, ...]) -> Ranking:
    order = names[::-1]
    return Ranking(order, {order[0]: "bottom", order[1]: "top"})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: str, tmp_path: Path):
    cohorts = KINDS[kind]
    ranking = ranking_of(cohorts.names)
    write_cohorts(tmp_path / "cohorts", cohorts, ranking)
    found, again = read_cohorts(tmp_path / "cohorts")
    assert type(found) is type(cohorts)
    assert (found.names, found.fields()) == (cohorts.names, cohorts.fields())
    assert again == ranking
    assert found.arrays().keys() == cohorts.arrays().keys()
    for name, array in cohorts.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)


def accents(**values: str | None) -> Population:
    return population_of((name, {"accent": value}) for name, value in values.items())


def test_values_of_columns():
    rows = [
        ("ann", {"accent": "rp"}),
        ("bob", {"accent": "us"}),
        ("cy", {}),
        ("di", {"accent": "rp"}),
    ]
    cohorts = column_cohorts(population_of(rows), ["accent"])
    assert cohorts.names == ("rp", "us")
    later = accents(eve="us", flo="nyc", gus="", hal="us")
    assert cohorts.assign(later).tolist() == [1, -1, -1, 1]
    with pytest.raises(InputError, match="has another value for each of 3 speakers"):
        column_cohorts(population_of([(s, {"voice": s}) for s in "abc"]), ["voice"])


def test_an_assignment_leaves_out_who_is_of_none():
    ranking = ranking_of(("a", "b", "c"))
    made = ranking.assignment(["x", "y", "z"], ("a", "b", "c"), np.array([2, -1, 0]))
    assert made.speakers == {"x": "c", "z": "a"}
    assert made.cohorts == ("c", "b", "a")
    assert made.metadata("c") == {"cohort": "c", "cohort_rank": 1, "cohort_group": "bottom"}


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cohorts.json").read_text())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("regions", {"kind": "forest"}),
        ("regions", {"kind": ["regions"]}),
        ("regions", {"format": 99}),
        ("regions", {"names": []}),
        ("regions", {"names": ["a", "a", "c"]}),
        ("regions", {"names": ["a", "b", 3]}),
        ("regions", {"names": ["a", "b"]}),
        ("regions", {"order": ["a", "b"]}),
        ("regions", {"order": None}),
        ("regions", {"groups": {"c": "worst"}}),
        ("regions", {"groups": {"a": "bottom"}}),
        ("regions", {"groups": {"d": "bottom"}}),
        ("regions", {"groups": []}),
        ("columns", {"columns": []}),
        ("columns", {"columns": "accent"}),
        ("units", {"column": 3}),
        ("units", {"members": [["10"], ["10"]]}),
        ("units", {"members": [["10"]]}),
        ("units", {"members": 7}),
        ("clusters", {"model": "speaker-tiny"}),
        ("clusters", {"model": ["a", "b", "c"]}),
    ],
)  # fmt: skip
def test_a_changed_definition_is_refused(kind: str, change: dict[str, Any], tmp_path: Path):
    write_cohorts(tmp_path, KINDS[kind], ranking_of(KINDS[kind].names))
    (tmp_path / "cohorts.json").write_text(json.dumps(record(tmp_path) | change))
    refused(tmp_path)


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        ("regions", {}),
        ("regions", {"boxes": BOXES.astype(np.float32)}),
        ("regions", {"boxes": BOXES[:2]}),
        ("regions", {"boxes": BOXES[:, :3]}),
        ("regions", {"boxes": np.where(np.isinf(BOXES), np.nan, BOXES)}),
        ("regions", {"boxes": BOXES[:, [1, 0, 2, 3]]}),
        ("regions", {"boxes": BOXES[[0, 1, 1]]}),
        ("clusters", {"centres": CENTRES[:2]}),
        ("clusters", {"centres": CENTRES[0]}),
        ("clusters", {"centres": CENTRES * np.float32(np.nan)}),
    ],
)
def test_changed_arrays_are_refused(kind: str, arrays: dict[str, np.ndarray], tmp_path: Path):
    write_cohorts(tmp_path, KINDS[kind], ranking_of(KINDS[kind].names))
    save_file(arrays, tmp_path / "arrays.safetensors")
    refused(tmp_path)


class Bomb:
    def __reduce__(self):
        return (Path("exploded").touch, ())


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Bomb()),
        b"",
        b"\xff" * 64,
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{}",
        b"\x80\x04" + b"0" * 50,
    ],
    ids=["pickle", "empty", "noise", "endless header", "protocol 4"],
)
def test_nothing_is_unpickled(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_cohorts(tmp_path, KINDS["regions"], ranking_of(KINDS["regions"].names))
    (tmp_path / "arrays.safetensors").write_bytes(content)
    refused(tmp_path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"kind": "regions"}', b"[" * 100_000]
)
def test_what_is_no_definition_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "cohorts.json").write_bytes(content)
    refused(tmp_path)


def test_a_folder_without_cohorts(tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no cohorts .* give the folder that"):
        read_cohorts(tmp_path)


def refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"cohorts.json is damaged or of another") as caught:
        read_cohorts(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
