"""What an operator says: success, failure, pause, stop, discard; once per step, and safely at any moment."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.operator import VERDICTS, EitherOperator, ScriptedOperator
from robot_env.preflight import preflight
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm
from tests.robot_env.test_safety import assert_in_box, assert_one_step

STILL = np.zeros(6, dtype=np.float32)
SIDE = np.array([0.5, 0, 0, 0, 0, 0], dtype=np.float32)


def running(*verdicts, task=TOY, judge=lambda state: False, **options):
    arm = ScriptedArm(task, **options)
    env = RobotEnv(task, arm, success=Judge(judge), operator=ScriptedOperator(verdicts))
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    return env, arm


def test_silence_changes_nothing():
    env, _ = running(None, None)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["succeed"]) == (TOY.reward_shift, False, False, False)
    assert "held_steps" not in info


def test_success_by_key_counts_as_success():
    env, _ = running(None, "success")
    env.step(STILL)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["succeed"], info["raw_reward"]) == (True, False, True, 1.0)
    assert reward == TOY.reward_scale + TOY.reward_shift
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(STILL)


def test_failure_is_what_the_task_says():
    env, _ = running("failure")
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["raw_reward"]) == (TOY.reward_shift, False, True, 0.0)
    costly = replace(TOY, failure_penalty=5.0, reward_scale=2.0)
    env, _ = running("failure", task=costly)
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["raw_reward"]) == (-11.0, True, False, -5.0)
    assert costly.reward == "1 at success, -5 at a failure that an operator calls, else 0"


def test_failure_by_key_outweighs_what_the_task_sees():
    env, _ = running("failure", judge=lambda state: True)
    *_, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["succeed"]) == (False, True, False)


@pytest.mark.parametrize("penalty", [-1.0, float("nan"), float("inf")])
def test_a_penalty_that_is_none_is_refused(penalty):
    with pytest.raises(ValueError, match="failure_penalty"):
        preflight(replace(TOY, failure_penalty=penalty))


def test_discard_cuts_the_episode_and_says_so():
    env, _ = running("discard")
    *_, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["succeed"], info["discarded"]) == (False, True, False, True)
    assert env.fault is None
    env.reset(seed=1)
    assert "discarded" not in env.step(STILL)[-1]


def test_stop_is_a_latched_fault():
    env, arm = running("stop")
    *_, terminated, truncated, info = env.step(STILL)
    assert (terminated, truncated, info["fault"]) == (False, True, "the operator stopped the arm")
    assert arm.stops == ["the operator stopped the arm"]
    with pytest.raises(ArmFault):
        env.reset()
    env.acknowledge("a test")
    env.reset(seed=0)


def test_in_a_pause_the_arm_is_held_and_time_stands_still():
    env, arm = running(None, "pause", *[None] * 50, "pause", *[None] * 100)
    env.step(SIDE)
    *_, truncated, info = env.step(SIDE)
    assert (truncated, info["held_steps"]) == (False, 51)
    held = np.array([command.tcp_pose for command in arm.commands[2:]])
    assert len(held) == 51
    np.testing.assert_allclose(held, np.broadcast_to(held[0], held.shape))  # one place, not wherever it creeps to
    steps = 2
    while not truncated:
        *_, truncated, info = env.step(STILL)
        steps += 1
    assert steps == TOY.max_steps
    assert "held_steps" not in info


def test_what_is_seen_after_a_pause_is_how_it_is_then():
    env, arm = running("pause", None, "pause")
    arm.wrench = np.array([0.0, 0, 0, 0, 0, 0])
    obs, *_ = env.step(SIDE)
    assert obs["state"][4] == pytest.approx(arm.pose[0] - TOY.target[0], abs=1e-6)


@pytest.mark.parametrize(("said", "ended"), [("success", "succeed"), ("discard", "discarded"), ("stop", "fault")])
def test_a_pause_may_end_otherwise(said, ended):
    env, _ = running("pause", None, None, said)
    *_, info = env.step(STILL)
    assert info[ended]
    assert info["held_steps"] == 3


def test_a_fault_in_a_pause_stops_the_arm():
    env, arm = running("pause", *[None] * 100)
    arm.script_reads(lambda state: state, lambda state: state, lambda state: replace(state, wrench=np.full(6, 99.0)))
    *_, truncated, info = env.step(STILL)
    assert truncated
    assert "above the compliant limit" in info["fault"]


def test_a_lost_operator_stops_the_arm():
    class Gone(ScriptedOperator):
        def verdict(self):
            raise ConnectionError("keyboard is lost")

    arm = ScriptedArm()
    env = RobotEnv(TOY, arm, success=Judge(), operator=Gone([]))
    env.reset(seed=0)
    assert "keyboard is lost" in env.step(STILL)[-1]["fault"]
    assert len(arm.stops) == 1


def test_of_several_operators_a_stop_is_heard_whoever_says_it():
    either = EitherOperator([ScriptedOperator(["success", None]), ScriptedOperator(["stop", "pause"])])
    assert [either.verdict() for _ in range(3)] == ["stop", "pause", None]


@settings(max_examples=40)
@given(
    verdicts=st.lists(st.sampled_from([None, None, None, *VERDICTS]), max_size=30),
    actions=st.lists(st.lists(st.floats(-1, 1), min_size=6, max_size=6), min_size=1, max_size=10),
    seed=st.integers(0, 99),
)
def test_whatever_is_said_every_command_stays_in_the_box_and_every_episode_ends_once(verdicts, actions, seed):
    arm = ScriptedArm(follow=0.9, noise_m=0.0005)
    env = RobotEnv(TOY, arm, success=Judge(), operator=ScriptedOperator([*verdicts, "discard"]))
    for episode in range(3):
        if env.fault is not None:
            env.acknowledge("a test")
        env.reset(seed=seed + episode)
        for action in actions:
            before = arm.pose.copy()
            count = len(arm.commands)
            _, reward, terminated, truncated, info = env.step(np.array(action))
            for command in arm.commands[count:]:
                assert_in_box(command.tcp_pose, TOY)
            if len(arm.commands) == count + 1:
                assert_one_step(before, arm.commands[-1].tcp_pose, TOY)
            assert not (terminated and truncated)
            assert (reward > TOY.reward_shift) == info["succeed"] == terminated
            if terminated or truncated:
                break
