"""Faults: they stop the arm, end the episode as truncation, stay latched, and end with an operator's name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_env.arm import Frame
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.intervention import ScriptedIntervention
from robot_env.safety import SafetyLayer
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm, at_offset, reading
from tests.robot_env.test_safety import assert_in_box, assert_one_step

STILL = np.zeros(6, dtype=np.float32)


def running(task=TOY, **options):
    arm = ScriptedArm(task, **options)
    env = RobotEnv(task, arm, success=Judge())
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    return env, arm


def assert_faulted(env, arm, result, reason):
    obs, reward, terminated, truncated, info = result
    assert (terminated, truncated, info["succeed"]) == (False, True, False)
    assert reward == TOY.reward_shift
    assert env.observation_space.contains(obs)
    assert reason in info["fault"]
    assert np.isfinite(info["executed_action"]).all()
    assert arm.stops == [info["fault"]]
    assert env.fault.reason == info["fault"]
    with pytest.raises(ArmFault, match="call acknowledge"):
        env.step(STILL)
    with pytest.raises(ArmFault, match="call acknowledge"):
        env.reset()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axis", range(6))
def test_an_action_that_is_not_finite_is_never_sent(value, axis):
    env, arm = running()
    action = np.zeros(6)
    action[axis] = value
    result = env.step(action)
    assert_faulted(env, arm, result, "not finite")
    assert not arm.commands
    assert not np.isfinite(result[4]["requested_action"][axis])


def test_a_humans_action_is_checked_too():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm, intervention=ScriptedIntervention([np.full(6, np.nan)]))
    env.reset(seed=0)
    assert_faulted(env, arm, env.step(STILL), "not finite")
    assert not arm.commands


READINGS = {
    "nan": (reading(tcp_pose=np.full(7, np.nan)), "not finite"),
    "quaternion": (reading(tcp_pose=np.zeros(7)), "quaternion of length 0"),
    "force": (reading(wrench=np.array([0, 0, 41.0, 0, 0, 0])), "above the compliant limit"),
    "torque": (reading(wrench=np.array([0, 0, 0, 0, 10.1, 0])), "above the compliant limit"),
    "spike": (reading(tcp_velocity=np.full(6, 1e6)), "beyond what an arm can do"),
    "backwards": (reading(stamp_s=-1.0), "stale"),
    "timeout": (TimeoutError("no answer in 0.5 s"), "TimeoutError: no answer in 0.5 s"),
    "connection": (ConnectionResetError("peer gone"), "ConnectionResetError: peer gone"),
}


@pytest.mark.parametrize("name", READINGS)
def test_a_bad_reading_in_an_episode_stops_the_arm(name):
    env, arm = running()
    env.step(STILL)
    change, reason = READINGS[name]
    arm.script_reads(change)
    assert_faulted(env, arm, env.step(STILL), reason)


def test_a_frozen_stamp_stops_the_arm():
    env, arm = running()
    arm.script_reads(reading(stamp_s=arm.clock_s))
    assert_faulted(env, arm, env.step(STILL), "stale")


@pytest.mark.parametrize("name", [name for name in READINGS if name not in ("force", "torque", "backwards")])
def test_a_bad_reading_in_a_reset_stops_the_arm_and_is_raised(name):
    for before in ([], [lambda state: state]):  # the reading before the path, and the one after it
        arm = ScriptedArm()
        env = RobotEnv(TOY, arm)
        change, reason = READINGS[name]
        arm.script_reads(*before, change)
        with pytest.raises(ArmFault, match="the arm was stopped"):
            env.reset(seed=0)
        assert reason in env.fault.reason
        assert len(arm.stops) == 1
        assert len(arm.paths) == len(before)


def test_the_wrench_limit_of_a_reset_is_the_precise_one():
    task = replace(TOY, wrench_limit={"compliant": (40.0, 10.0), "precise": (5.0, 10.0)})
    arm = ScriptedArm(task)
    env = RobotEnv(task, arm)
    arm.script_reads(reading(wrench=np.array([0, 0, 6.0, 0, 0, 0])))
    with pytest.raises(ArmFault, match="above the precise limit of 5 N"):
        env.reset(seed=0)
    assert not arm.paths


def test_an_arm_left_far_away_is_not_sent_for():
    arm = ScriptedArm()
    arm.pose = at_offset((0.0, -0.7, 0.1, 0.0, 0.0, 0.0))
    env = RobotEnv(TOY, arm)
    with pytest.raises(ArmFault, match="guide it back by hand"):
        env.reset(seed=0)
    assert not arm.paths
    arm.pose = at_offset((0.0, -0.1, 0.1, 0.0, 0.0, 0.0))  # the operator did
    env.acknowledge("Ada")
    env.reset(seed=0)


def test_an_arm_pushed_out_of_the_box_is_stopped_at_once_and_led_back_at_the_next_reset():
    env, arm = running(follow=0.0)
    arm.pose = at_offset((0.05 + 0.03, 0.0, 0.05, 0.0, 0.0, 0.0))  # one step does lead back from here
    assert env.step(STILL)[2:4] == (False, False)
    arm.pose = at_offset((0.05 + 0.04, 0.0, 0.05, 0.0, 0.0, 0.0))
    assert_faulted(env, arm, env.step(STILL), "outside the box, more than one step")
    env.acknowledge("Ada")
    env.reset()
    env.step(STILL)


def test_a_reset_that_does_not_arrive_is_a_fault():
    env, arm = running()
    arm.script_reads(lambda state: state, reading(tcp_pose=at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.0))))
    with pytest.raises(ArmFault, match="more than one step from its start pose"):
        env.reset(options={"offset": (0.0, 0.0, 0.08, 0.0, 0.0, 0.0)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda command: replace(command, tcp_pose=at_offset((0.0, 0.0, 0.2, 0.0, 0.0, 0.0))), "outside the box"),
        (lambda command: replace(command, tcp_pose=at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.0))), "more than one step"),
        (lambda command: replace(command, tcp_pose=command.tcp_pose * np.nan), "not finite"),
        (TimeoutError("no answer"), "TimeoutError"),
        (BrokenPipeError("gone"), "BrokenPipeError"),
    ],
    ids=["outside", "jump", "nan", "timeout", "pipe"],
)
def test_an_arm_that_sends_something_else_or_nothing_is_stopped(change, reason):
    env, arm = running()
    arm.script_sends(change)
    assert_faulted(env, arm, env.step(STILL), reason)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("a bug in a driver")])
def test_an_interrupt_or_a_bug_stops_the_arm_too_and_is_not_hidden(error):
    env, arm = running()
    arm.script_sends(error)
    with pytest.raises(type(error)):
        env.step(STILL)
    assert len(arm.stops) == 1
    with pytest.raises(ArmFault):
        env.step(STILL)


def test_a_success_function_that_raises_stops_the_arm():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm, success=Judge(lambda state: 1 // 0 == 0))
    env.reset(seed=0)
    with pytest.raises(ZeroDivisionError):
        env.step(STILL)
    assert len(arm.stops) == 1


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: 1 // 0, "gave no picture: ZeroDivisionError"),
        (lambda: Frame(np.zeros((480, 640, 3), np.uint8), 9.0), r"(480, 640, 3)"),
        (lambda: Frame(np.zeros((128, 128, 3)), 9.0), "float64"),
        (lambda: None, "NoneType"),
    ],
)
def test_a_camera_that_fails_in_mid_episode_stops_the_arm_instead_of_waiting(read, reason):
    env, arm = running(replace(TOY, cameras=("wrist_1",)))
    arm.cameras["wrist_1"].read = read
    assert_faulted(env, arm, env.step(STILL), reason)


def test_a_camera_the_arm_does_not_have_is_named():
    env = RobotEnv(replace(TOY, cameras=("wrist_9",)), ScriptedArm(TOY))
    with pytest.raises(ArmFault, match="camera 'wrist_9' gave no picture"):
        env.reset(seed=0)


# The latch


def test_a_fault_is_acknowledged_by_name_once_and_kept_for_audit():
    env, _ = running()
    env.step(STILL)
    env.step(np.full(6, np.nan))
    for nobody in ("", "  ", None):
        with pytest.raises(ValueError, match="not a name"):
            env.acknowledge(nobody)
    assert env.fault is not None
    fault = env.acknowledge(" Ada ")
    assert (fault.acknowledged_by, fault.episode, fault.step) == ("Ada", 1, 2)
    assert env.fault is None
    with pytest.raises(ValueError, match="no fault is open"):
        env.acknowledge("Ada")
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):  # acknowledged, but the episode is over
        env.step(STILL)
    env.reset()
    env.step(STILL)
    env.step(np.full(6, np.inf))
    assert [f.acknowledged_by for f in env.faults] == ["Ada", None]
    assert [f.episode for f in env.faults] == [1, 2]


def test_an_arm_recovers_only_after_an_acknowledgement():
    env, arm = running()
    assert arm.connections == 1
    env.step(np.full(6, np.nan))
    with pytest.raises(ArmFault):
        env.reset()
    assert arm.connections == 1
    env.acknowledge("Ada")
    env.reset()
    assert arm.connections == 2


def test_an_arm_that_cannot_be_reached_has_not_moved_and_may_be_tried_again():
    class Absent(ScriptedArm):
        def connect(self) -> None:
            super().connect()
            if self.connections == 1:
                raise ConnectionRefusedError("is the controller on?")

    env = RobotEnv(TOY, Absent())
    with pytest.raises(ConnectionRefusedError):
        env.reset(seed=0)
    assert env.fault is None
    env.reset(seed=0)


# Whatever a policy or an arm does


number = st.floats(allow_nan=True, allow_infinity=True, width=32)
adversarial = st.one_of(
    st.lists(number, min_size=6, max_size=6),
    st.lists(st.sampled_from([-1.0, 0.0, 1.0, 1e30, -1e30]), min_size=6, max_size=6),
)
# Where the arm is pushed to between two steps, on top of where it is.
misplaced = st.tuples(*[st.sampled_from([0.0, 0.01, 0.03, -0.03])] * 3, *[st.sampled_from([0.0, 0.1, -0.1, 0.3])] * 3)


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(adversarial, min_size=1, max_size=25),
    pushes=st.lists(misplaced, max_size=5),
    follow=st.sampled_from([0.0, 0.5, 1.0, 1.7, 2.5]),
    seed=st.integers(0, 1000),
)
def test_whatever_happens_the_commanded_pose_stays_in_the_box(actions, pushes, follow, seed):
    arm = ScriptedArm(follow=follow, noise_m=0.002)
    env = RobotEnv(TOY, arm, success=Judge())
    measured = []
    send = arm.send

    def watched(command):
        assert_in_box(command.tcp_pose, TOY)
        assert_one_step(env._drive.pose, command.tcp_pose, TOY)
        measured.append(command)
        return send(command)

    arm.send = watched
    env.reset(seed=seed)
    for index, action in enumerate(actions):
        if index < len(pushes):
            arm.pose = arm.pose.copy()
            arm.pose[:3] += pushes[index][:3]
        *_, truncated, _ = env.step(np.array(action, dtype=np.float32))
        if truncated:
            if env.fault is not None:
                env.acknowledge("a test")
            env.reset()
    for path in arm.paths[1:]:
        assert_in_box(path[-1], TOY)
    assert len(measured) == len(arm.commands)


# The last line of defence: should the code that makes commands ever be wrong, the checks before sending still hold


class BrokenLimit(SafetyLayer):
    def limit(self, wanted, measured):
        return np.asarray(wanted)


class BrokenPlan(SafetyLayer):
    def plan_reset(self, measured, start):
        return self.pose(start)[None, :]


def test_a_command_made_wrongly_is_not_sent():
    env, arm = running()
    env._drive.safety = BrokenLimit(TOY)
    for _ in range(10):  # straight at the wall
        *_, truncated, info = env.step(np.array([1.0, 0, 0, 0, 0, 0]))
        if truncated:
            break
    assert "commanded pose" in info["fault"]
    for command in arm.commands:
        assert_in_box(command.tcp_pose, TOY)


def test_a_reset_path_made_wrongly_is_not_followed():
    env, arm = running()
    env.safety = BrokenPlan(TOY)
    with pytest.raises(ArmFault, match="more than one step from the one before"):
        env.reset(options={"offset": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)})
    assert len(arm.paths) == 1
