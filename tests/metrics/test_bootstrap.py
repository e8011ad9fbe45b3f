"""The interval holds the truth about as often as it says, and reacts to what it should."""

import math

import numpy as np
import pytest

from parley.metrics.bootstrap import paired_speaker_bootstrap, speaker_bootstrap


def simulate(rng: np.random.Generator, speakers: int) -> tuple[list[int], list[int], list[str]]:
    """Speakers with word error rates of their own (Beta, mean 0.1), 20 utterances each."""
    rates = rng.beta(2.0, 18.0, size=speakers)
    errors, words, names = [], [], []
    for i, rate in enumerate(rates):
        for length in rng.integers(2, 9, size=20):
            errors.append(int(rng.binomial(length, rate)))
            words.append(int(length))
            names.append(f"s{i}")
    return errors, words, names


@pytest.mark.parametrize(("speakers", "nominal"), [(8, 0.92), (30, 0.945)])
def test_coverage(speakers: int, nominal: float):
    rng = np.random.default_rng(1)
    trials, hits, blind = 400, 0, 0
    for _ in range(trials):
        errors, words, names = simulate(rng, speakers)
        low, high = speaker_bootstrap(errors, words, names, draws=400)
        hits += low <= 0.1 <= high
        low, high = speaker_bootstrap(errors, words, [""] * len(names), draws=100)
        blind += low <= 0.1 <= high
    # Three standard deviations of 400 trials are 3.3 points; so few and so skewed speakers cost
    # the smaller sample some of its coverage.
    assert nominal - 0.035 <= hits / trials <= 0.985
    # What the blocks are for: utterances taken for independent promise far too much.
    assert blind / trials < 0.80


def test_the_estimate_lies_inside_and_the_seed_decides():
    errors, words, names = simulate(np.random.default_rng(2), 10)
    low, high = speaker_bootstrap(errors, words, names)
    assert low < sum(errors) / sum(words) < high
    assert (low, high) == speaker_bootstrap(errors, words, names)
    assert (low, high) != speaker_bootstrap(errors, words, names, seed=1)


def test_order_of_utterances_does_not_matter():
    errors, words, names = simulate(np.random.default_rng(3), 10)
    # Speakers stay in their order of appearance, utterances within them are turned round.
    turned = sorted(range(len(names)), key=lambda i: (int(names[i][1:]), -i))
    again = speaker_bootstrap(
        [errors[i] for i in turned], [words[i] for i in turned], [names[i] for i in turned]
    )
    assert speaker_bootstrap(errors, words, names) == pytest.approx(again)


def test_one_speaker_has_no_interval():
    low, high = speaker_bootstrap([1, 2], [10, 10], ["a", "a"])
    assert math.isnan(low)
    assert math.isnan(high)
    assert math.isnan(speaker_bootstrap([], [], [])[0])


def test_equal_speakers_leave_nothing_uncertain():
    assert speaker_bootstrap([1, 1, 1], [10, 10, 10], ["a", "b", "c"]) == pytest.approx((0.1, 0.1))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 words"):
        speaker_bootstrap([1], [1, 2], ["a"])


def test_pairing_finds_a_small_difference_between_systems_that_fail_on_the_same_speakers():
    rng = np.random.default_rng(4)
    errors, words, names = simulate(rng, 30)
    # The other system makes the same errors but for every tenth of them.
    better = [e - int(rng.binomial(e, 0.1)) for e in errors]
    difference = (sum(better) - sum(errors)) / sum(words)
    low, high = paired_speaker_bootstrap(better, errors, words, names)
    assert low < difference < high < 0
    # Apart, their intervals overlap by nearly all of their length.
    alone_low, alone_high = speaker_bootstrap(errors, words, names)
    assert speaker_bootstrap(better, words, names)[1] > alone_low
    assert high - low < 0.5 * (alone_high - alone_low)


def test_paired_coverage():
    rng = np.random.default_rng(5)
    trials, hits = 400, 0
    for _ in range(trials):
        errors, words, names = simulate(rng, 20)
        # An independent system of two thirds of the errors: 0.1 * (2 / 3 - 1) apart.
        other = [int(rng.binomial(e, 2 / 3)) for e in errors]
        low, high = paired_speaker_bootstrap(other, errors, words, names, draws=400)
        hits += low <= -0.1 / 3 <= high
    assert 0.905 <= hits / trials <= 0.985


def test_turning_the_systems_round_turns_the_interval_round():
    errors, words, names = simulate(np.random.default_rng(6), 12)
    other = errors[::-1]
    low, high = paired_speaker_bootstrap(errors, other, words, names)
    assert (-high, -low) == pytest.approx(paired_speaker_bootstrap(other, errors, words, names))
    assert paired_speaker_bootstrap(errors, errors, words, names) == (0.0, 0.0)
    with pytest.raises(ValueError, match="of the baseline"):
        paired_speaker_bootstrap(errors, other[1:], words, names)
