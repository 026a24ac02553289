"""Preflight refuses, in words, every task that could not run safely."""

from dataclasses import replace
from math import inf, nan, pi

import numpy as np
import pytest

from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.pose import offset_from_pose, pose_from_vector
from robot_env.preflight import outside, preflight
from robot_env.starts import evaluation_starts
from robot_env.tasks import Scene, Task, find_task, task_names
from sim.scripted import ScriptedInsertion, ScriptQuality
from tests.robot_env.scripted_arm import TOY, ScriptedArm


@pytest.mark.parametrize("name", task_names())
def test_every_task_here_passes(name):
    preflight(find_task(name))
    assert find_task(name).name == name


def with_axis(values, axis, value):
    return tuple(value if i == axis else old for i, old in enumerate(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": with_axis(TOY.low, 1, 0.07)}, r"low y 0\.07 m is above high y 0\.06 m; swap them"),
        ({"low": with_axis(TOY.low, 2, 0.01)}, "target .* outside the box z"),
        ({"high": with_axis(TOY.high, 5, 3.2)}, r"box yaw .* exceeds ±3 rad"),
        ({"high": with_axis(TOY.high, 4, 1.5)}, r"box pitch .* exceeds ±1\.4 rad"),
        ({"reset": with_axis(TOY.reset, 2, 0.09)}, r"reset z 0\.07\.\.0\.11 m is outside the box -0\.01\.\.0\.1 m"),
        ({"reset_range": with_axis(TOY.reset_range, 3, 0.11)}, r"reset roll .* outside the box"),
        ({"reset_range": with_axis(TOY.reset_range, 0, -0.01)}, "reset_range x -0.01 m is negative"),
        ({"target": with_axis(TOY.target, 0, nan)}, "target .* not finite"),
        ({"low": with_axis(TOY.low, 0, -inf)}, "low .* not finite"),
        ({"reset": TOY.reset[:3]}, "reset has 3 numbers; give 6"),
        ({"action_scale": (0.0, 0.1)}, "action_scale 0 m"),
        ({"action_scale": (0.02, 0.6)}, r"action_scale 0\.6 rad is not in 0\.\.0\.5"),
        ({"action_scale": (0.02, nan)}, "action_scale .* not finite"),
        ({"wrench_limit": {"compliant": (40.0, 10.0)}}, r"wrench_limit\['precise'\] None"),
        ({"wrench_limit": {"compliant": (40.0, inf), "precise": (40.0, 10.0)}}, r"wrench_limit\['compliant'\]"),
        ({"wrench_limit": {"compliant": (40.0, 10.0), "precise": (0.0, 10.0)}}, r"wrench_limit\['precise'\]"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"max_steps": 2.5}, "max_steps 2.5"),
        ({"hz": 0.0}, "hz 0 is not positive"),
        ({"hz": inf}, "hz inf is not finite"),
        ({"discount": 0.0}, "discount 0"),
        ({"discount": 1.01}, "discount 1.01"),
        ({"reward_scale": 0.0}, "reward_scale 0"),
        ({"reward_shift": nan}, "reward_shift nan is not finite"),
        ({"success_tolerance": (0.0, 0.2)}, "success_tolerance"),
        ({"relative_to": "base"}, "relative_to 'base' is unknown"),
        ({"cameras": ("wrist_1", "wrist_1")}, "cameras .* collide"),
        ({"cameras": ("state",)}, "cameras .* collide"),
        ({"camera_fault": "wait"}, "camera_fault 'wait' is unknown; choose 'hold' or 'stop'"),
    ],
)
def test_a_task_that_cannot_run_is_refused_by_name_and_reason(change, message):
    task = replace(TOY, **change)
    with pytest.raises(ValueError, match=message) as refusal:
        preflight(task)
    assert str(refusal.value).startswith("task 'toy' does not pass preflight: ")
    arm = ScriptedArm()
    with pytest.raises(ValueError, match=message):
        RobotEnv(task, arm)
    assert arm.connections == 0


def test_all_that_is_wrong_is_said_at_once():
    task = replace(TOY, hz=-1.0, max_steps=0, reset=with_axis(TOY.reset, 0, 1.0))
    with pytest.raises(ValueError, match=r"reset x .* max_steps 0 .* hz -1"):
        preflight(task)


# The peg task as it was published with WSRL's robot code, in the version that lists reset poses: target, box, and all of them
# (base frame, m and rad, to the millimetre and milliradian).
PUBLISHED_TARGET = (0.578, -0.073, 0.105, 3.090, 0.023, 1.611)
PUBLISHED = Task(
    name="published_peg",
    target=PUBLISHED_TARGET,
    low=(-0.05, -0.1, 0.0, -0.01, -0.01, -pi / 6),
    high=(0.2, 0.1, 0.1, 0.01, 0.01, pi / 6),
    reset=(0.0, 0.0, 0.1, 0.0, 0.0, 0.0),
    reset_range=(0.05, 0.05, 0.0, 0.0, 0.0, pi / 6),
    scene=Scene(),
)
PUBLISHED_RESETS = [
    (0.546, -0.135, 0.204, -3.099, 0.079, 1.639),
    (0.527, -0.074, 0.199, -3.062, 0.073, 1.656),
    (0.545, -0.019, 0.194, -3.059, 0.041, 1.683),
    (0.588, -0.027, 0.187, -3.117, -0.001, 1.667),
    (0.621, -0.026, 0.184, -3.113, -0.039, 1.661),
    (0.624, -0.057, 0.190, -3.128, -0.036, 1.644),
    (0.621, -0.100, 0.192, -3.135, -0.033, 1.624),
    (0.623, -0.139, 0.182, -3.138, -0.052, 1.614),
    (0.589, -0.125, 0.187, -3.116, 0.047, 1.696),
    (0.585, -0.085, 0.192, -3.094, 0.033, 1.632),
]
FRANKA = find_task("peg_insertion_franka")


def published_offset(pose):
    return offset_from_pose(pose_from_vector(pose), pose_from_vector(PUBLISHED_TARGET))


@pytest.mark.parametrize("pose", PUBLISHED_RESETS)
def test_the_published_reset_poses_leave_the_published_box(pose):
    offset = published_offset(pose)
    with pytest.raises(ValueError, match=r"reset (roll|pitch) .* outside the box -0\.01\.\.0\.01 rad"):
        preflight(replace(PUBLISHED, reset=offset, reset_range=(0.0,) * 6))
    env = RobotEnv(PUBLISHED, ScriptedArm(PUBLISHED))
    with pytest.raises(ValueError, match=r"box of task 'published_peg': .*rad is 0\.0\d+ outside -0\.01\.\.0\.01"):
        env.reset(seed=0, options={"offset": offset})


def test_the_published_task_is_refused_with_the_spread_of_its_reset_poses():
    offsets = np.array([published_offset(pose) for pose in PUBLISHED_RESETS])
    middle, half = (offsets.max(0) + offsets.min(0)) / 2, (offsets.max(0) - offsets.min(0)) / 2
    with pytest.raises(ValueError, match=r"reset roll .* reset pitch "):
        preflight(replace(PUBLISHED, reset=tuple(middle), reset_range=tuple(half)))


def test_the_task_that_is_shipped_has_the_published_numbers_and_reset_poses_in_its_box():
    assert (FRANKA.max_steps, FRANKA.discount, FRANKA.action_scale, FRANKA.hz) == (500, 0.98, (0.02, 0.1), 10.0)
    np.testing.assert_allclose(np.subtract(FRANKA.high, FRANKA.low), [0.1, 0.1, 0.1, 0.02, 0.02, pi / 3])
    starts = evaluation_starts(FRANKA, 20)
    assert len({tuple(start.offset) for start in starts}) == 20
    for start in starts:
        assert outside(FRANKA, start.offset.tolist()) == ""
        assert start.offset[2] == 0.10
    for pose in PUBLISHED_RESETS:
        assert "rad is" in outside(FRANKA, published_offset(pose))


def test_the_twin_carries_out_the_shipped_task_from_each_reset_pose():
    task = replace(FRANKA, cameras=())
    arm = make_arm(task, "twin")
    env = RobotEnv(task, arm)
    ends = []
    hand = ScriptQuality(noise=0.02)  # a steady one repeats its last half millimetre for ever in some of them
    for start in evaluation_starts(task, 20):
        env.reset(seed=start.seed, options={"offset": start.offset})
        expert, over = ScriptedInsertion(task, arm.hole_pose, hand, np.random.default_rng(0)), False
        while not over:
            *_, terminated, truncated, info = env.step(expert.act(arm.read()))
            over = terminated or truncated
        ends.append(info["succeed"])
    assert ends == [True] * 20
