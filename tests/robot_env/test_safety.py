"""The safety layer alone: whatever is wanted and wherever the arm is, what may be commanded stays in the box."""

from dataclasses import replace
from itertools import pairwise
from math import inf, nan, pi, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmCommand, ArmState
from robot_env.faults import Violation
from robot_env.joints import HOME_RAD
from robot_env.pose import displace, pose_from_vector
from robot_env.safety import APPROACH_M, APPROACH_RAD, SafetyLayer
from robot_env.tasks import Task, find_task
from tests.robot_env.scripted_arm import TOY, at_offset

WIDE = replace(TOY, low=(-0.5, -0.5, -0.2, -3.0, -1.4, -3.0), high=(0.5, 0.5, 0.5, 3.0, 1.4, 3.0))
"""A box in which Euler angles are far from straight: their clipping alone can turn a tool by more than one step."""
TASKS = [TOY, WIDE, find_task("peg_insertion")]
TASK_IDS = ["toy", "wide", "peg_insertion"]

anything = st.floats(allow_nan=True, allow_infinity=True)
near = st.floats(-3.2, 3.2)
action = st.tuples(*[st.floats(-1.0, 1.0)] * 6)
fractions = st.tuples(*[st.floats(0.0, 1.0)] * 6)


def box_offset(pose, task: Task) -> np.ndarray:
    """The offset of a pose from the target, by scipy alone."""
    turn = Rotation.from_quat(pose[3:]) * Rotation.from_euler("xyz", task.target[3:]).inv()
    return np.concatenate([pose[:3] - np.array(task.target[:3]), turn.as_euler("xyz")])


def assert_in_box(pose, task: Task) -> None:
    offset = box_offset(pose, task)
    assert (offset >= np.array(task.low) - 1e-9).all(), offset
    assert (offset <= np.array(task.high) + 1e-9).all(), offset


def assert_one_step(a, b, task: Task) -> None:
    assert np.linalg.norm(np.subtract(b[:3], a[:3])) <= sqrt(3) * task.action_scale[0] + 1e-8
    turn = Rotation.from_quat(b[3:]) * Rotation.from_quat(a[3:]).inv()
    assert turn.magnitude() <= 1.03 * sqrt(3) * task.action_scale[1]  # Euler angles compose to a little more


def inside(task: Task, fraction) -> np.ndarray:
    low, high = np.array(task.low), np.array(task.high)
    return at_offset((low + (high - low) * np.array(fraction)).tolist(), task)


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
@given(fraction=fractions, wish=action)
def test_from_inside_every_action_has_a_command_in_the_box_one_step_away(task, fraction, wish):
    safety, measured = SafetyLayer(task), inside(task, fraction).tolist()
    pose = safety.limit(displace(measured, wish, task.action_scale).tolist(), measured)
    assert_in_box(pose, task)
    assert_one_step(measured, pose, task)
    safety.check_command(ArmCommand(pose), measured)


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
@given(position=st.tuples(anything, anything, anything), angles=st.tuples(near, near, near), wish=action)
def test_from_anywhere_a_command_is_safe_or_refused(task, position, angles, wish):
    safety = SafetyLayer(task)
    measured = [*position, *Rotation.from_euler("xyz", angles).as_quat()]
    wanted = displace(measured, wish, task.action_scale).tolist()
    try:
        pose = safety.limit(wanted, measured)
    except Violation:
        return
    assert_in_box(pose, task)
    assert_one_step(measured, pose, task)


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
@given(fraction=fractions, wanted=st.tuples(*[anything] * 7))
def test_whatever_is_wanted_the_command_is_safe_or_refused(task, fraction, wanted):
    safety, measured = SafetyLayer(task), inside(task, fraction).tolist()
    length = np.linalg.norm(np.clip(np.nan_to_num(wanted[3:]), -1e9, 1e9))
    assume(length > 1e-6)
    unit = (np.clip(np.nan_to_num(wanted[3:]), -1e9, 1e9) / length).tolist()
    try:
        pose = safety.limit([*wanted[:3], *unit], measured)
    except Violation:
        assert not np.isfinite(wanted[:3]).all()
        return
    assert_in_box(pose, task)
    assert_one_step(measured, pose, task)


def test_a_little_outside_the_arm_is_led_back_in_even_by_an_action_that_points_along_the_wall():
    safety = SafetyLayer(TOY)
    measured = at_offset((0.05 + 0.03, 0.0, 0.05, 0.0, 0.0, 0.0)).tolist()
    along = safety.limit([measured[0], measured[1] + 0.03, *measured[2:]], measured)
    assert_in_box(along, TOY)
    assert_one_step(measured, along, TOY)
    assert along[1] > measured[1] + 0.005  # what is left of the step goes where the action pointed


def test_further_outside_than_one_step_nothing_is_commanded():
    measured = at_offset((0.05 + 0.04, 0.0, 0.05, 0.0, 0.0, 0.0)).tolist()
    with pytest.raises(Violation, match=r"0\.0400 m, 0\.0000 rad outside the box"):
        SafetyLayer(TOY).limit(measured, measured)


# Resets


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
@given(begin=fractions, end=fractions)
def test_a_reset_from_inside_never_leaves_the_box(task, begin, end):
    safety, measured = SafetyLayer(task), inside(task, begin)
    start = box_offset(inside(task, end), task)
    path = safety.plan_reset(measured.tolist(), start.tolist())
    for before, pose in pairwise([measured, *path]):
        assert_in_box(pose, task)
        assert_one_step(before, pose, task)
    np.testing.assert_allclose(box_offset(path[-1], task), start, atol=1e-6)
    safety.check_path(path, measured.tolist())


@given(position=st.tuples(*[st.floats(-0.3, 0.3)] * 3), angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3), end=fractions)
def test_a_reset_from_outside_only_comes_nearer(position, angles, end):
    safety, measured = SafetyLayer(TOY), at_offset((*position, *angles))
    path = safety.plan_reset(measured.tolist(), box_offset(inside(TOY, end), TOY).tolist())
    safety.check_path(path, measured.tolist())
    low, high = np.array(TOY.low), np.array(TOY.high)
    last = inf
    for before, pose in pairwise([measured, *path]):
        assert_one_step(before, pose, TOY)
        offset = box_offset(pose, TOY)
        outside = np.linalg.norm((offset - np.clip(offset, low, high))[:3])
        assert outside <= last + 1e-9
        last = outside
    assert_in_box(path[-1], TOY)


def test_a_reset_lifts_straight_up_before_it_moves_sideways():
    measured = at_offset((0.03, -0.02, 0.0, 0.0, 0.0, 0.3))
    path = SafetyLayer(TOY).plan_reset(measured.tolist(), [-0.03, 0.0, 0.05, 0.0, 0.0, 0.0])
    top = TOY.target[2] + TOY.high[2]
    lifted = int(np.argmax(path[:, 2] >= top - 1e-9))
    np.testing.assert_allclose(path[: lifted + 1, :2], np.broadcast_to(measured[:2], (lifted + 1, 2)), atol=1e-9)
    assert path[lifted, 2] == pytest.approx(top)


def test_a_reset_across_the_wrap_of_the_tools_roll_turns_the_short_way():
    task = replace(TOY, target=(0.5, 0.1, 0.2, pi, 0.0, 0.0))
    measured = pose_from_vector((0.5, 0.1, 0.3, 3.08, 0.0, 0.0))
    path = SafetyLayer(task).plan_reset(measured.tolist(), [0.0, 0.0, 0.1, 0.06, 0.0, 0.0])
    turned = [(Rotation.from_quat(p[3:]) * Rotation.from_quat(measured[3:]).inv()).magnitude() for p in path]
    assert turned[-1] == pytest.approx(pi + 0.06 - 3.08, abs=1e-9)
    assert max(turned) <= turned[-1] + 1e-9


def test_an_arm_far_from_the_box_is_to_be_guided_back_by_hand():
    measured = at_offset((0.0, 0.0, 0.10 + APPROACH_M + 0.01, 0.0, 0.0, 0.0)).tolist()
    with pytest.raises(Violation, match="guide it back by hand"):
        SafetyLayer(TOY).plan_reset(measured, list(TOY.reset))


def test_a_tool_turned_far_is_to_be_guided_back_by_hand():
    measured = at_offset((0.0, 0.0, 0.05, 0.0, 0.0, 0.6 + APPROACH_RAD + 0.01)).tolist()
    with pytest.raises(Violation, match="guide it back by hand"):
        SafetyLayer(TOY).plan_reset(measured, list(TOY.reset))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path * nan, "not finite"),
        (lambda path: path[-1:], "more than one step"),
        (lambda path: path + np.array([0, 0, 0, 0, 0, 0, 0.01]), "quaternion of length"),
        (lambda path: path + np.array([0.2, 0, 0, 0, 0, 0, 0]), "outside the box"),
        (lambda path: path[:0], "does not end in the box"),
    ],
    ids=["nan", "jump", "quaternion", "outside", "empty"],
)
def test_a_reset_path_is_checked_like_any_other_command(spoil, reason):
    safety, measured = SafetyLayer(TOY), at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.0)).tolist()
    path = safety.plan_reset(measured, [0.03, 0.03, 0.08, 0.0, 0.0, 0.4])
    with pytest.raises(Violation, match=reason):
        safety.check_path(spoil(path), measured)


# Commands and readings


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tcp_pose": at_offset((0.0, 0.0, -0.011, 0.0, 0.0, 0.0))}, "outside the box"),
        ({"tcp_pose": at_offset((0.0, 0.0, 0.05, 0.0, 0.0, 0.0))}, "more than one step"),
        ({"tcp_pose": at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.3))}, "more than one step"),
        ({"tcp_pose": np.full(7, nan)}, "not finite"),
        ({"tcp_pose": np.zeros(7)}, "length 0"),
        ({"tcp_pose": np.zeros(6)}, "shape"),
        ({"gripper": nan}, "gripper"),
        ({"gripper": 1.5}, "gripper"),
        ({"mode": "brutal"}, "no wrench limit"),
    ],
)
def test_a_bad_command_is_refused(change, reason):
    here = at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    SafetyLayer(TOY).check_command(ArmCommand(here), here.tolist())
    with pytest.raises(Violation, match=reason):
        SafetyLayer(TOY).check_command(replace(ArmCommand(here), **change), here.tolist())


GOOD = ArmState(at_offset((0.0, 0.0, 0.0, 0.0, 0.0, 0.0)), np.zeros(6), np.zeros(6), np.array(HOME_RAD), 0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tcp_pose": GOOD.tcp_pose * nan}, "measured pose .* not finite"),
        ({"tcp_pose": GOOD.tcp_pose * 2.0}, "quaternion of length 2"),
        ({"tcp_pose": GOOD.tcp_pose + np.array([50, 0, 0, 0, 0, 0, 0])}, "measured position"),
        ({"tcp_velocity": np.full(6, inf)}, "velocity"),
        ({"tcp_velocity": np.full(6, 1e3)}, "velocity"),
        ({"wrench": np.array([0, 0, nan, 0, 0, 0])}, "wrench"),
        ({"wrench": np.array([30.0, 30.0, 0, 0, 0, 0])}, r"42\.4 N.* above the compliant limit"),
        ({"wrench": np.array([0, 0, 0, 0, 11.0, 0])}, r"11\.00 N·m is above"),
        ({"joints": np.full(7, nan)}, "joint"),
        ({"gripper": nan}, "gripper"),
        ({"stamp_s": nan}, "stale"),
        ({"stamp_s": 0.9}, "stale"),
        ({"stamp_s": 0.5}, "stale"),
    ],
)
def test_a_bad_reading_is_refused(change, reason):
    safety = SafetyLayer(TOY)
    safety.check_state(GOOD, "compliant", after_s=0.9)
    with pytest.raises(Violation, match=reason):
        safety.check_state(replace(GOOD, **change), "compliant", after_s=0.9)


def test_the_wrench_limit_is_that_of_the_mode():
    safety = SafetyLayer(replace(TOY, wrench_limit={"compliant": (10.0, 5.0), "precise": (40.0, 5.0)}))
    pressing = replace(GOOD, wrench=np.array([0.0, 0.0, 20.0, 0.0, 0.0, 0.0]))
    safety.check_state(pressing, "precise")
    with pytest.raises(Violation, match="above the compliant limit of 10 N"):
        safety.check_state(pressing, "compliant")
