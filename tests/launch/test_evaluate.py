"""Evaluation: the same trials every time, how long they took, and what a human says of them."""

from dataclasses import replace

import numpy as np
import pytest

from launch.attendant import program
from launch.evaluate import Evaluator, Trial, score_of
from launch.policies import load_policy
from robot_env.make import make_env
from robot_env.operator import ScriptedOperator
from robot_env.tasks import find_task
from tests.robot_env.scripted_arm import Judge


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


def test_seconds_to_success_are_those_of_the_control_steps_and_failures_have_none(pretrained):
    now, nets, _ = load_policy(pretrained)
    task = replace(find_task("peg_insertion"), max_steps=3)
    counted = iter([False, True, False, False, False])  # the second step of one trial; all three of the next
    env = make_env(task, success=Judge(lambda state: next(counted)))
    score = Evaluator(env, nets, 2, seed=0, attendant=program)(now, "mode")
    assert [trial.success_s for trial in score.outcomes] == [0.2, None]
    assert score.success_s == (0.2, 0.2, 0.2)
    env.close()


def test_quartiles_of_the_seconds_to_success_leave_failures_out():
    seconds = [1.0, None, 2.0, 3.0, None, 4.0, 5.0]
    outcomes = [Trial(i, s is not None, 9, None, 0.0, success_s=s) for i, s in enumerate(seconds)]
    assert score_of("mode", outcomes).success_s == (2.0, 3.0, 4.0)
    assert score_of("mode", outcomes[1:2]).success_s is None


def test_by_the_clock_a_pause_does_not_count(pretrained):
    """Ten periods of 20 ms are paused; the four steps take at least three."""
    now, nets, _ = load_policy(pretrained)
    task = replace(find_task("peg_insertion"), hz=50.0)
    said = [None, "pause", *[None] * 9, "pause", None, "success"]
    env = make_env(task, operator=ScriptedOperator(said), realtime=True)
    evaluator = Evaluator(env, nets, 1, seed=0, attendant=program)
    env.reset(seed=0)
    evaluator._policies["mode"](now, env.reset(seed=0)[0], 0)  # compiled before the clock runs
    trial = evaluator.trial(now, "mode", 0)
    assert (trial.success, trial.env_steps) == (True, 4)
    assert trial.success_s == pytest.approx(3 / 50, abs=0.05)
    env.close()


def test_a_trial_that_a_human_discards_is_run_again(pretrained):
    now, nets, _ = load_policy(pretrained)
    said = [None, "discard", "success", "failure"]
    env = make_env(find_task("peg_insertion"), operator=ScriptedOperator(said))
    evaluator = Evaluator(env, nets, 2, seed=0, attendant=program)
    score = evaluator(now, "sample")
    assert [(t.number, t.success, t.env_steps) for t in score.outcomes] == [(0, True, 1), (1, False, 1)]
    assert evaluator.calls == 4  # those of the discarded one too: no draw comes twice
    env.close()


def test_a_camera_that_the_task_has_not_is_refused(segue, pretrained):
    code, _, err = segue("evaluate", pretrained, "--camera", "wrist_1=opencv:0")
    assert code == 2
    assert err.startswith("segue: camera wrist_1=opencv:0: task 'peg_insertion' has the cameras none")
