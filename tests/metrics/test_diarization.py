"""Diarization errors: by hand, against frames and every mapping, and of silence."""

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.metrics.diarization import DiarizationErrors, activity_errors, diarization_errors


@dataclass(frozen=True)
class Turn:
    start: float
    end: float
    speaker: str = ""
    text: str = ""


ticks = st.integers(0, 12).map(float)
turns = st.lists(st.builds(Turn, ticks, ticks, st.sampled_from("ABC")), max_size=5)


def by_frames(reference: list[Turn], hypothesis: list[Turn], collar: float) -> DiarizationErrors:
    """Frames of half a second, in which nothing changes, under the best of all mappings."""

    def talking(turns: list[Turn], time: float) -> frozenset[str]:
        return frozenset(t.speaker for t in turns if t.start < time < t.end)

    edges = [edge for t in reference if t.end > t.start for edge in (t.start, t.end)]
    centres = [i / 2 - 2 + 0.25 for i in range(40)]
    scored = [c for c in centres if all(abs(c - edge) > collar for edge in edges)]
    frames = [(talking(reference, c), talking(hypothesis, c)) for c in scored]
    missed = sum(max(len(r) - len(h), 0) for r, h in frames)
    alarms = sum(max(len(h) - len(r), 0) for r, h in frames)
    known, names = (sorted({t.speaker for t in side}) for side in (reference, hypothesis))
    confused = min(
        sum(min(len(r), len(h)) - len(r & {mapping[name] for name in h}) for r, h in frames)
        # With the fillers any of them may be mapped to nobody.
        for own in itertools.permutations([*known, *"xyz"], len(names))
        for mapping in [dict(zip(names, own, strict=True))]
    )
    speech = sum(len(r) for r, _ in frames)
    return DiarizationErrors(missed / 2, alarms / 2, confused / 2, speech / 2)


def seconds(errors: DiarizationErrors) -> tuple[float, ...]:
    return errors.missed, errors.false_alarm, errors.confused, errors.speech


@settings(deadline=None)
@given(turns, turns, st.sampled_from([0.0, 0.5, 1.0]))
def test_intervals_agree_with_frames(reference: list[Turn], hypothesis: list[Turn], collar: float):
    found = diarization_errors(reference, hypothesis, collar=collar)
    assert seconds(found) == pytest.approx(seconds(by_frames(reference, hypothesis, collar)))


@settings(deadline=None)
@given(turns, turns)
def test_activity_is_diarization_of_one_speaker(reference: list[Turn], hypothesis: list[Turn]):
    one = [[Turn(t.start, t.end) for t in side] for side in (reference, hypothesis)]
    found = activity_errors(reference, hypothesis)
    assert seconds(found) == pytest.approx(seconds(by_frames(*one, collar=0.0)))
    assert found.confused == 0.0


def test_by_hand():
    reference = [Turn(0, 4, "ann"), Turn(3, 6, "bob")]
    # 1 is mostly Ann and 2 mostly Bob; from 2 to 3 it says Bob instead of Ann.
    hypothesis = [Turn(0, 2, "1"), Turn(2, 5.5, "2"), Turn(7, 8, "1")]
    found = diarization_errors(reference, hypothesis)
    assert seconds(found) == pytest.approx((1.0 + 0.5, 1.0, 1.0, 7.0))
    assert found.rate == pytest.approx(3.5 / 7)
    assert seconds(activity_errors(reference, hypothesis)) == pytest.approx((0.5, 1.0, 0.0, 6.0))
    assert seconds(found + found) == pytest.approx((3.0, 2.0, 2.0, 14.0))


def test_names_do_not_matter_and_nobody_is_counted_twice():
    reference = [Turn(0, 4, "ann"), Turn(4, 6, "bob"), Turn(6, 9, "ann")]
    renamed = [Turn(t.start, t.end, {"ann": "bob", "bob": "1"}[t.speaker]) for t in reference]
    assert diarization_errors(reference, renamed) == DiarizationErrors(speech=9.0)
    doubled = [*reference, Turn(1, 3, "ann"), Turn(2, 2, "eve")]
    assert diarization_errors(doubled, renamed) == DiarizationErrors(speech=9.0)


def test_a_collar_forgives_what_is_near_a_boundary():
    reference = [Turn(1, 3, "a"), Turn(3, 5, "b")]
    late = [Turn(1.2, 3.2, "a"), Turn(3.2, 5.2, "b")]
    assert diarization_errors(reference, late).rate == pytest.approx(0.6 / 4)
    assert diarization_errors(reference, late, collar=0.25) == DiarizationErrors(speech=3.0)
    # Between the two turns speech goes on: no edge of activity, so nothing is left out there.
    assert activity_errors(reference, late, collar=0.25) == DiarizationErrors(speech=3.5)


def test_of_silence():
    assert diarization_errors([], []).rate == 0.0
    assert activity_errors([], []).rate == 0.0
    assert diarization_errors([], [Turn(0, 2, "a")]) == DiarizationErrors(false_alarm=2.0)
    assert diarization_errors([], [Turn(0, 2, "a")]).rate == math.inf
    assert diarization_errors([Turn(0, 2, "a")], []) == DiarizationErrors(missed=2.0, speech=2.0)


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="finite"):
        diarization_errors([Turn(0, math.nan)], [])
    with pytest.raises(ValueError, match="negative"):
        diarization_errors([], [], collar=-1.0)
