"""What a hand asks for becomes an action in the policy's frame: the tool goes where the human, wherever they stand, pushes."""

from math import pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_env.env import RobotEnv
from robot_env.hand import Hand, HandMapping, Reading
from robot_env.pose import displace
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm

NAMES = ("x", "y", "z", "rx", "ry", "rz")
PLAIN = HandMapping(NAMES, close="close", open="open", take_over=("hold",), dead_zone=0.1)
SCALE = (0.02, 0.1)
DOWN = (0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)  # the tool's x axis forward, its z axis down

axis = st.floats(-1.0, 1.0)
turns = st.tuples(*[st.floats(-pi, pi)] * 3)


class Held:
    """A device that shows what it is told to."""

    def __init__(self, *held: str, **axes: float) -> None:
        self.reading = Reading(axes, frozenset(held))

    def read(self):
        return self.reading

    def presses(self):
        return []


def pose_at(turn):
    return (0.5, 0.0, 0.2, *Rotation.from_euler("xyz", turn).as_quat())


def beyond(value: float, dead_zone: float = 0.1) -> float:
    """An axis as it counts outside of its dead zone."""
    return np.sign(value) * max(0.0, abs(value) - dead_zone) / (1.0 - dead_zone)


@given(values=st.tuples(*[axis] * 6), turn=turns, facing=st.floats(-2 * pi, 2 * pi))
def test_however_the_tool_is_turned_it_moves_along_the_humans_axes(values, turn, facing):
    pose = pose_at(turn)
    action = PLAIN.action(Reading(dict(zip(NAMES, values, strict=True)), frozenset()), pose, facing)
    assert np.abs(action).max() <= 1.0 + 1e-9
    tool, view = Rotation.from_quat(pose[3:]), Rotation.from_euler("z", facing)
    for half, asked in ((action[:3], values[:3]), (action[3:], values[3:])):
        wanted = tool.inv().apply(view.apply([beyond(value) for value in asked]))
        shortened = wanted / max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(half, shortened, atol=1e-9)


@given(turn=turns)
def test_forward_moves_the_tool_along_the_bases_x_axis_and_yaw_turns_it_about_its_z_axis(turn):
    pose = pose_at(turn)
    moved = displace(pose, PLAIN.action(Reading({"x": 0.5}, frozenset()), pose), SCALE)
    assert moved[0] - pose[0] == pytest.approx(SCALE[0] * beyond(0.5), abs=1e-9)
    np.testing.assert_allclose(moved[1:3], pose[1:3], atol=1e-9)
    turned = displace(pose, PLAIN.action(Reading({"rz": 0.5}, frozenset()), pose), SCALE)
    about = (Rotation.from_quat(turned[3:]) * Rotation.from_quat(pose[3:]).inv()).as_rotvec()
    np.testing.assert_allclose(about, [0.0, 0.0, SCALE[1] * beyond(0.5)], atol=1e-9)


def test_axes_are_permuted_and_turned_round():
    mapping = HandMapping(("-y", "-x", "", "", "", "z"), dead_zone=0.0, scale=(1.0, 0.5))
    action = mapping.action(Reading({"x": 0.25, "y": -1.0, "z": 1.0}, frozenset()), (0, 0, 0, 0, 0, 0, 1))
    np.testing.assert_allclose(action, [1.0, -0.25, 0.0, 0.0, 0.0, 0.5])


@given(values=st.tuples(*[st.floats(-0.1, 0.1)] * 6))
def test_at_rest_the_policy_acts(values):
    hand = Hand(Held(**dict(zip(NAMES, values, strict=True))), PLAIN)
    assert hand.action({}, DOWN) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e9])
def test_an_axis_that_shows_nonsense_never_asks_for_more_than_one(value):
    action = PLAIN.action(Reading({"x": value}, frozenset()), DOWN)
    assert np.abs(action).max() <= 1.0


@pytest.mark.parametrize(("button", "grip"), [("close", -1.0), ("open", 1.0), ("hold", 0.0)])
def test_a_button_takes_over_and_moves_the_gripper(button, grip):
    np.testing.assert_array_equal(Hand(Held(button), PLAIN, gripper=True).action({}, DOWN), [0, 0, 0, 0, 0, 0, grip])
    np.testing.assert_array_equal(Hand(Held(button), PLAIN).action({}, DOWN), np.zeros(6))
    assert Hand(Held("another"), PLAIN, gripper=True).action({}, DOWN) is None


def test_an_angle_in_degrees_is_refused():
    with pytest.raises(ValueError, match="facing 180 rad is more than a whole turn"):
        Hand(Held(), PLAIN, facing_rad=180)


def test_through_the_environment_the_arm_goes_where_the_human_pushes():
    arm = ScriptedArm(follow=1.0)
    env = RobotEnv(TOY, arm, success=Judge(), intervention=Hand(Held(y=0.55), PLAIN))
    env.reset(seed=3, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.5)})
    before = arm.pose.copy()
    *_, info = env.step(np.full(6, 0.9))
    np.testing.assert_allclose(arm.pose[:3] - before[:3], [0.0, 0.01, 0.0], atol=1e-9)
    assert "intervene_action" in info


def test_in_an_episode_alone_nobody_takes_over():
    env = RobotEnv(TOY, ScriptedArm(follow=1.0), success=Judge(), intervention=Hand(Held(y=1.0), PLAIN))
    env.reset(seed=3, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0), "alone": True})
    *_, info = env.step(np.zeros(6))
    assert "intervene_action" not in info
    env.reset(seed=3)
    assert "intervene_action" in env.step(np.zeros(6))[-1]
