"""Success rates: published figures, what holds for all counts, and figures by hand."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from launch.rates import Pairs, better, better_of_pairs, difference, mcnemar, pairs_of, wilson

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
PAIRS = st.builds(Pairs, *[st.integers(0, 30)] * 4).filter(lambda p: p.both + p.only_this + p.only_that + p.neither)


def counts_of(pairs: Pairs) -> tuple[int, int, int, int]:
    trials = pairs.both + pairs.only_this + pairs.only_that + pairs.neither
    return pairs.both + pairs.only_this, trials, pairs.both + pairs.only_that, trials


@given(COUNTS)
def test_wilsons_interval_ends_where_the_rate_is_just_1_96_standard_errors_away(counts):
    success, trials = counts
    low, high = wilson(success, trials)
    rate, z = success / trials, norm.ppf(0.975)
    assert 0.0 <= low <= rate <= high <= 1.0
    for end, inside in ((low, success > 0), (high, success < trials)):
        if inside:
            assert abs(rate - end) == pytest.approx(z * sqrt(end * (1 - end) / trials), rel=1e-6)
    other = wilson(trials - success, trials)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-12)


def test_none_and_all_by_hand_and_no_trial():
    z = norm.ppf(0.975)
    assert wilson(0, 20) == pytest.approx((0.0, z**2 / (20 + z**2)), abs=1e-12)
    assert wilson(20, 20) == pytest.approx((20 / (20 + z**2), 1.0), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_newcombes_published_examples():
    assert difference(56, 70, 48, 80) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)  # table II, method 10
    pairs = Pairs(36, 12, 2, 0)
    assert pairs.phi == pytest.approx(-24 / sqrt(48 * 2 * 38 * 12))
    assert difference(*counts_of(pairs), pairs.phi) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_eight_won_and_one_lost_by_hand():
    pairs = Pairs(10, 8, 1, 1)
    assert mcnemar(pairs) == pytest.approx(2 * (1 + 9) / 2**9)
    assert better_of_pairs(pairs) == pytest.approx(
        1 - 11 / 2**10
    )  # of ten fair coins at most one falls on the other side
    assert pairs.phi == 0.0  # 10 * 1 - 8 * 1 is within half of the trials


@pytest.mark.parametrize(
    ("counts", "by_hand"), [((1, 1, 0, 1), 5 / 6), ((0, 1, 0, 1), 1 / 2), ((0, 1, 1, 1), 1 / 6), ((2, 2, 0, 1), 9 / 10)]
)
def test_the_better_of_two_small_counts_by_hand(counts, by_hand):
    assert better(*counts) == pytest.approx(by_hand)


def test_the_better_as_draws_have_it():
    rng = np.random.default_rng(0)
    drawn = rng.beta(19, 3, 400_000) > rng.beta(12, 10, 400_000)
    assert better(18, 20, 11, 20) == pytest.approx(drawn.mean(), abs=1e-3)


@given(COUNTS, COUNTS)
def test_swapping_two_runs_turns_everything_round(one, other):
    assert 0.0 <= better(*one, *other) <= 1.0
    assert better(*other, *one) == pytest.approx(1 - better(*one, *other), abs=1e-9)
    gap, low, high = difference(*one, *other)
    assert -1.0 <= low <= gap <= high <= 1.0
    assert difference(*other, *one) == pytest.approx((-gap, -high, -low), abs=1e-12)


@given(PAIRS)
def test_swapping_two_runs_of_the_same_trials_turns_everything_round(pairs):
    swapped = Pairs(pairs.both, pairs.only_that, pairs.only_this, pairs.neither)
    assert 0.0 < mcnemar(pairs) <= 1.0
    assert mcnemar(swapped) == pytest.approx(mcnemar(pairs))
    assert better_of_pairs(swapped) == pytest.approx(1 - better_of_pairs(pairs), abs=1e-9)
    assert -1.0 <= pairs.phi == swapped.phi <= 1.0
    gap, low, high = difference(*counts_of(pairs), pairs.phi)
    assert low <= gap <= high
    assert difference(*counts_of(swapped), swapped.phi) == pytest.approx((-gap, -high, -low), abs=1e-12)


@given(COUNTS, COUNTS)
def test_another_success_makes_it_better(one, other):
    success, trials = one
    if success < trials:
        assert better(success + 1, trials, *other) > better(success, trials, *other)
    assert better(trials, trials, 0, other[1]) > 0.8
    assert better(0, trials, other[1], other[1]) < 0.2


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_pairs_count_each_trial_once(outcomes):
    this, that = [a for a, _ in outcomes], [b for _, b in outcomes]
    pairs = pairs_of(this, that)
    assert pairs.both + pairs.only_this == sum(this)
    assert pairs.both + pairs.only_that == sum(that)
    assert pairs.neither + pairs.only_this == len(that) - sum(that)
