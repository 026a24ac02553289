"""Evaluation: exact intervals, and the same trials every time."""

import numpy as np
import pytest
from scipy.stats import binom

from launch.evaluate import Evaluator, clopper_pearson
from launch.policies import load_policy
from robot_env.make import make_env
from robot_env.tasks import find_task


@pytest.mark.parametrize(("success", "trials"), [(0, 20), (1, 20), (13, 20), (19, 20), (20, 20), (1, 1)])
def test_interval_is_where_the_binomial_tails_hold_two_and_a_half_percent(success, trials):
    low, high = clopper_pearson(success, trials)
    assert 0 <= low <= success / trials <= high <= 1
    if success:
        assert binom.sf(success - 1, trials, low) == pytest.approx(0.025)
    if success < trials:
        assert binom.cdf(success, trials, high) == pytest.approx(0.025)


def test_twenty_of_twenty_by_hand():
    low, high = clopper_pearson(20, 20)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 20))


def test_the_mode_repeats_itself_and_samples_do_not(pretrained):
    now, nets, _ = load_policy(pretrained)
    env = make_env(find_task("peg_insertion"))
    evaluator = Evaluator(env, nets, 2, seed=0, operator="test")
    assert evaluator(now, "mode") == evaluator(now, "mode")
    first, second = evaluator(now, "sample"), evaluator(now, "sample")
    assert first.outcomes != second.outcomes
    again = Evaluator(env, nets, 2, seed=0, operator="test")
    assert again(now, "sample").outcomes == first.outcomes
    env.close()


def test_watching_sees_the_start_and_every_step(pretrained):
    now, nets, _ = load_policy(pretrained)
    env = make_env(find_task("peg_insertion"))
    evaluator, seen = Evaluator(env, nets, 1, seed=0, operator="test"), []
    trial = evaluator.trial(now, "mode", 0, watch=lambda: seen.append(env.arm.read().stamp_s))
    assert len(seen) == trial.env_steps + 1
    assert np.all(np.diff(seen) > 0)
    env.close()
