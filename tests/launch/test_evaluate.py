"""Evaluation: exact intervals, and the same trials every time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from launch.attendant import program
from launch.evaluate import Evaluator, clopper_pearson
from launch.policies import load_policy
from robot_env.make import make_env
from robot_env.tasks import find_task
from tests.robot_env.scripted_arm import Judge


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
    evaluator = Evaluator(env, nets, 2, seed=0, attendant=program)
    assert evaluator(now, "mode") == evaluator(now, "mode")
    first, second = evaluator(now, "sample"), evaluator(now, "sample")
    assert first.outcomes != second.outcomes
    again = Evaluator(env, nets, 2, seed=0, attendant=program)
    assert again(now, "sample").outcomes == first.outcomes
    env.close()


def test_watching_sees_the_start_and_every_step(pretrained):
    now, nets, _ = load_policy(pretrained)
    env = make_env(find_task("peg_insertion"))
    evaluator, seen = Evaluator(env, nets, 1, seed=0, attendant=program), []
    trial = evaluator.trial(now, "mode", 0, watch=lambda: seen.append(env.arm.read().stamp_s))
    assert len(seen) == trial.env_steps + 1
    assert np.all(np.diff(seen) > 0)
    env.close()


@pytest.mark.parametrize(
    ("judged", "true", "success", "wrong"), [(True, False, 0, 2), (True, True, 2, 0), (False, True, 2, 0)]
)
def test_success_is_the_truths_and_the_reward_is_held_against_it(pretrained, judged, true, success, wrong):
    now, nets, _ = load_policy(pretrained)
    task = replace(find_task("peg_insertion"), max_steps=2)
    env = make_env(task, success=Judge(lambda state: judged), truth=Judge(lambda state: true))
    score = Evaluator(env, nets, 2, seed=0, attendant=program)(now, "mode")
    assert (score.success, score.false_positives) == (success, wrong)
    assert [(trial.success, trial.judged) for trial in score.outcomes] == [(true, judged)] * 2
    assert [trial.env_steps for trial in score.outcomes] == [1 if judged else 2] * 2
    env.close()


def test_where_nobody_knows_the_truth_no_false_positive_is_counted(pretrained):
    now, nets, _ = load_policy(pretrained)
    env = make_env(replace(find_task("peg_insertion"), max_steps=1), success=Judge(lambda state: True))
    score = Evaluator(env, nets, 1, seed=0, attendant=program)(now, "mode")
    assert (score.success, score.false_positives, score.outcomes[0].judged) == (1, None, None)
    env.close()


def test_a_camera_that_the_task_has_not_is_refused(segue, pretrained):
    code, _, err = segue("evaluate", pretrained, "--camera", "wrist_1=opencv:0")
    assert code == 2
    assert err.startswith("segue: camera wrist_1=opencv:0: task 'peg_insertion' has the cameras none")
