"""Areas by their majority: tables, and the partition with the largest gap."""

from pathlib import Path

import numpy as np
import pytest

from parley.data.errors import InputError
from parley.fairness.population import population_of
from parley.fairness.units import UnitTable, fit_units, read_units, unit_table, write_units
from people import simulated

TABLE = "zip,accent:us,accent:rp,gender:female\n10,0.6,0.4,0.5\n11,.2,.7,\n12,,,0.1\n13,0.5,0.5,0\n"


def test_a_table_is_read_and_written(tmp_path: Path):
    for suffix, text in ((".csv", TABLE), (".tsv", TABLE.replace(",", "\t"))):
        path = tmp_path / f"units{suffix}"
        path.write_text("\ufeff" + text)
        table = read_units(path)
        assert table.column == "zip"
        assert table.units == ("10", "11", "12", "13")
        assert table.attributes == ("accent:us", "accent:rp", "gender:female")
        np.testing.assert_equal(table.shares[1], [0.2, 0.7, np.nan])
        assert table.rivals() == {"accent": [0, 1], "gender": [2]}
        # Of equal shares the first; none where nothing is known.
        assert table.majorities([0, 1]).tolist() == [0, 1, -1, 0]
        again = tmp_path / f"again{suffix}"
        write_units(again, table)
        np.testing.assert_equal(read_units(again).shares, table.shares)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is no table of units"),
        ("zip\n10\n", "is no table of units"),
        ("zip,a\n", "is no table of units"),
        ("zip,a,a\n1,0,1\n", "is no table of units"),
        ("zip,,b\n1,0,1\n", "is no table of units"),
        ("zip,a,b\n1,0\n", "the row of unit '1' has not 3 cells"),
        ("zip,a\n1,1.5\n", "'1.5' of unit '1' is no share"),
        ("zip,a\n1,-0.1\n", "'-0.1' of unit '1' is no share"),
        ("zip,a\n1,many\n", "'many' of unit '1' is no share"),
        ("zip,a\n1,inf\n", "'inf' of unit '1' is no share"),
        ("zip,a\n1,0.1\n1,0.2\n", "has unit '1' twice"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: str, sentence: str):
    path = tmp_path / "units.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_units(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"zip,a\n\xff,1\n")
    with pytest.raises(InputError, match="it is not UTF-8"):
        read_units(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_units(tmp_path / "absent.csv")


def areas(seed: int = 0):
    """300 speakers of 30 areas; areas with a majority of rp are served badly."""
    rng = np.random.default_rng(seed)
    units = tuple(f"{10 + i}" for i in range(30))
    rp, female = rng.uniform(0, 1, (2, 30))
    shares = np.stack([1 - rp, rp, female, 1 - female], axis=1)
    table = UnitTable("zip", units, ("accent:us", "accent:rp", "sex:f", "sex:m"), shares)
    home = rng.integers(0, 30, 300)
    words = rng.integers(100, 200, 300)
    errors = rng.binomial(words, np.where(rp[home] > 0.5, 0.2, 0.1))
    zips = [units[h] if i % 10 else "" for i, h in enumerate(home)]
    return table, simulated(errors, words, zip=zips), home, rp


def test_the_partition_with_the_largest_gap_is_kept():
    table, scores, home, rp = areas()
    cohorts, partitions = fit_units(table, scores.population, scores.errors, scores.words)
    assert set(cohorts.names) in ({"accent:us", "not accent:us"}, {"accent:rp", "not accent:rp"})
    index = cohorts.assign(scores.population)
    missing = np.arange(300) % 10 == 0
    assert ((index == -1) == missing).all()
    bad = (rp[home] > 0.5) == (cohorts.names[0] == "accent:rp")
    assert (index[~missing] == np.where(bad, 0, 1)[~missing]).all()
    # Against every partition by hand.
    for p in partitions:
        rivals = [0, 1] if p.attribute.startswith("accent") else [2, 3]
        a = table.attributes.index(p.attribute)
        inside = (table.shares[:, rivals].argmax(axis=1) == rivals.index(a))[home]
        rates = [
            scores.errors[s & ~missing].sum() / scores.words[s & ~missing].sum()
            for s in (inside, ~inside)
        ]
        assert p.rates == pytest.approx(tuple(rates))
        assert p.gap == pytest.approx((max(rates) - min(rates)) / min(rates))
        assert p.speakers == ((inside & ~missing).sum(), (~inside & ~missing).sum())
    assert [p.gap for p in partitions] == sorted((p.gap for p in partitions), reverse=True)


def test_small_sides_are_no_partition():
    table, scores, _, _ = areas()
    every = (scores.population, scores.errors, scores.words)
    with pytest.raises(InputError, match="no attribute of the table parts the speakers"):
        fit_units(table, *every, min_speakers=150)
    other = UnitTable("zip", ("99",), table.attributes, table.shares[:1])
    with pytest.raises(InputError, match="no speaker's zip is in the table"):
        fit_units(other, *every)


def test_a_table_counted_from_speakers():
    rows = [
        ("ann", {"zip": "10", "accent": "rp", "gender": "f"}),
        ("bob", {"zip": "10", "accent": "us", "gender": "f"}),
        ("cy", {"zip": "11", "accent": "us"}),
        ("di", {"accent": "us", "gender": "m"}),
    ]
    table = unit_table(population_of(rows), "zip", ["accent", "gender"])
    assert table.units == ("10", "11")
    assert table.attributes == ("accent:rp", "accent:us", "gender:f", "gender:m")
    np.testing.assert_equal(table.shares, [[0.5, 0.5, 1, 0], [0, 1, np.nan, np.nan]])
