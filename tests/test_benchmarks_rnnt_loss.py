"""What the loss benchmark is made of: lengths, floors, published figures. Nothing is timed."""

import argparse

import numpy as np
import pytest

from parley.benchmarks import rnnt_loss
from parley.benchmarks.rnnt_loss_cases import (
    RANDOM,
    SORTED,
    SORTED_FRAMES,
    Case,
    all_cases,
    full_rows,
    published,
    read_speech,
)
from parley.benchmarks.rnnt_loss_measure import needed_bytes, too_large
from parley.benchmarks.rnnt_loss_tpu import collectives


def test_lengths_are_like_those_of_read_speech():
    frames, labels = read_speech(20_000)
    seconds = 0.04 * frames
    assert seconds.min() >= 1.36  # 1.4 s, cut to whole frames
    assert seconds.max() <= 16.7
    assert abs(seconds.mean() - 12.7) < 0.1
    assert 0.75 < np.mean(seconds >= 12) < 0.8
    assert abs(labels.sum() / seconds.sum() - 3.3) < 0.05
    again = read_speech(20_000)
    np.testing.assert_array_equal(again[0], frames)


def _case(level: str, shape: str) -> Case:
    return next(c for c in all_cases() if c.level == level and c.shape == shape)


def test_a_sorted_batch_is_full_and_has_little_padding():
    batch, loose = _case("joint", SORTED), _case("joint", RANDOM)
    rows, frames, _, _ = batch.dims
    assert SORTED_FRAMES - frames < rows * frames <= SORTED_FRAMES
    assert batch.padded < 0.2 < loose.padded
    assert loose.dims[0] == 30


def test_floors_count_the_cells_within_the_lengths():
    case = Case("joint", "two rows", (3, 2), (1, 0), classes=5, width=7)
    assert (case.cells, case.dense_cells) == (3 * 2 + 2 * 1, 2 * 3 * 2)
    assert case.flops == 6 * 8 * 7 * 5
    assert case.logits_bytes == 4 * 12 * 5
    assert case.padded == pytest.approx(1 / 3)


def test_names_of_shapes_are_unique_and_survive_json():
    cases = all_cases()
    assert len({c.name for c in cases}) == len(cases)
    assert all(Case.of_json(c.as_json()) == c for c in cases)


def test_every_published_figure_belongs_to_a_shape_of_both_levels():
    for figure in published():
        levels = {c.level for c in all_cases() if c.shape == figure.shape}
        assert levels == {"logits", "joint"}, figure


def test_published_figures_are_read_as_they_are_printed():
    found = {(p.shape, p.implementation): p for p in published()}
    assert len(found) == 16 + 30 + 7
    assert found[RANDOM, "k2, pruned"][4:] == (63.395, 3820.3)
    assert found["T1500 U300 V50 N=32", "warp-rnnt"].ms is None  # out of memory
    assert found["T1500 U300 V50 N=32", "warp-rnnt, gather"].ms == 157.86
    assert ("T150 U40 V28 N=1", "warp-rnnt, gather") not in found  # not given
    assert all(p.hardware for p in published())


def test_a_shape_that_does_not_fit_is_skipped_with_its_size():
    case = full_rows("logits", 128, 150, 20, 5000)
    reason = too_large(needed_bytes(case, "rnnt_loss"), 8 << 30, case)
    assert reason is not None
    assert reason.startswith("dense logits need 7.5 GiB")
    joint = full_rows("joint", 128, 150, 20, 5000, 512)
    assert too_large(needed_bytes(joint, "transducer_loss"), 8 << 30, joint) is None
    assert too_large(needed_bytes(joint, "full logits"), 8 << 30, joint)


def test_processes_rotate_and_a_skipped_form_is_not_asked_again(monkeypatch):
    asked = []

    def answer(command, request):
        asked.append(request["form"])
        if request["form"] == "full logits":
            return {"skipped": "too large"}
        return {"ms": {request["form"]: [2.0, 4.0]}, "flops_per_s": 1e9}

    monkeypatch.setattr(rnnt_loss, "ask", answer)
    given = argparse.Namespace(rounds=3, repeats=2, peer_python="python")
    case = full_rows("joint", 1, 10, 4, 5, 10)
    found = rnnt_loss.measure(case, ["fast_rnnt"], given, "cpu")
    assert asked == [
        *("transducer_loss", "full logits", "fast_rnnt"),
        *("fast_rnnt", "transducer_loss"),
        *("fast_rnnt", "transducer_loss"),
    ]
    rows = {row["form"]: row for row in rnnt_loss.rows_of(found, 1e9)}
    assert rows["transducer_loss"]["ms"] == 3.0
    assert rows["transducer_loss"]["floor_ms"] == pytest.approx(1e3 * case.flops / 1e9)
    assert rows["full logits"]["skipped"] == "too large"


def test_collectives_are_counted_once_each():
    text = """
      %a = f32[8] all-gather-start(%x)
      %b = f32[8] all-gather-done(%a)
      %c = f32[8] all-reduce(%y), to_apply=%all-to-all-like
    """
    found = collectives(text)
    assert (found["all-gather"], found["all-reduce"], found["all-to-all"]) == (1, 1, 0)
