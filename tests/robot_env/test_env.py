"""The environment's contract: spaces, observation, action, reward, the ends of an episode, seeds."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmState
from robot_env.env import RobotEnv
from robot_env.intervention import ScriptedIntervention
from robot_env.joints import HOME_RAD
from robot_env.observation import make_spaces
from robot_env.starts import evaluation_starts
from robot_env.success import GeometricSuccess
from tests.robot_env.scripted_arm import TOY, Judge, ScriptedArm, at_offset, reading

STILL = np.zeros(6, dtype=np.float32)
DOWN = np.array([0, 0, 1, 0, 0, 0], dtype=np.float32)  # the tool's z axis points down


@pytest.mark.parametrize(
    "task",
    [
        TOY,
        replace(TOY, relative_to="reset"),
        replace(TOY, gripper=True),
        replace(TOY, cameras=("wrist_1", "wrist_2")),
    ],
    ids=["target", "reset", "gripper", "cameras"],
)
def test_gymnasium_accepts_it(task):
    env = RobotEnv(task, ScriptedArm(task, noise_m=0.001))
    assert (env.observation_space, env.action_space) == make_spaces(task)
    check_env(env, skip_render_check=True)


# Observation


def test_the_state_vector_holds_what_the_contract_says():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm)
    env.reset(seed=0)
    arm.wrench = np.array([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
    arm.script_reads(reading(wrench=arm.wrench, gripper=0.25, tcp_velocity=np.arange(6.0), stamp_s=99.0))
    obs, *_ = env.step(np.full(6, 0.1))
    state = obs["state"]
    assert state.shape == (19,)
    assert state.dtype == np.float32
    turn = Rotation.from_quat(arm.pose[3:])
    target = Rotation.from_euler("xyz", TOY.target[3:])
    assert state[0] == pytest.approx(0.25)
    np.testing.assert_allclose(state[1:4], [1, 2, 3])
    np.testing.assert_allclose(state[4:7], arm.pose[:3] - TOY.target[:3], atol=1e-6)
    np.testing.assert_allclose(state[7:10], (turn * target.inv()).as_euler("xyz"), atol=1e-6)
    np.testing.assert_allclose(state[10:13], [0.1, 0.2, 0.3], atol=1e-6)
    np.testing.assert_allclose(state[13:16], turn.inv().apply([0, 1, 2]), atol=1e-6)
    np.testing.assert_allclose(state[16:19], turn.inv().apply([3, 4, 5]), atol=1e-6)


def test_relative_to_reset_the_pose_starts_at_zero_and_hides_the_target():
    arm = ScriptedArm()
    env = RobotEnv(replace(TOY, relative_to="reset"), arm)
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        np.testing.assert_allclose(obs["state"][4:10], 0.0, atol=1e-7)
    origin = arm.pose.copy()
    obs, *_ = env.step(np.array([0.5, -0.3, 0.2, 0.0, 0.0, 0.4]))
    back = Rotation.from_quat(origin[3:]).inv()
    np.testing.assert_allclose(obs["state"][4:7], back.apply(arm.pose[:3] - origin[:3]), atol=1e-7)
    turn = back * Rotation.from_quat(arm.pose[3:])
    np.testing.assert_allclose(obs["state"][7:10], turn.as_euler("xyz"), atol=1e-7)


def test_a_tool_that_points_down_is_observed_far_from_the_wrap_of_its_roll():
    env = RobotEnv(TOY, ScriptedArm())
    env.reset(seed=0)
    for roll in (1.0, -1.0, -1.0, 1.0):  # absolute roll goes through ±pi
        obs, *_ = env.step(np.array([0, 0, 0, 0.5 * roll, 0, 0]))
        assert abs(obs["state"][7:10]).max() < 0.7


def test_pictures_are_the_cameras_own_and_nobody_elses():
    task = replace(TOY, cameras=("wrist_1",))
    arm = ScriptedArm(task)
    env = RobotEnv(task, arm)
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first["wrist_1"], arm.cameras["wrist_1"].read().picture)
    second, *_ = env.step(DOWN)
    np.testing.assert_array_equal(second["wrist_1"], arm.cameras["wrist_1"].read().picture)
    assert not np.array_equal(first["wrist_1"], second["wrist_1"])


def test_a_picture_does_not_change_when_the_camera_reuses_its_buffer():
    task = replace(TOY, cameras=("wrist_1",))
    arm = ScriptedArm(task)
    frame = arm.cameras["wrist_1"].read()
    kept = frame.picture.copy()
    arm.cameras["wrist_1"].read = lambda: frame
    obs, _ = RobotEnv(task, arm).reset(seed=0)
    frame.picture[:] = 255
    np.testing.assert_array_equal(obs["wrist_1"], kept)


# Action


@settings(max_examples=50)
@given(action=st.lists(st.floats(-1.0, 1.0, width=32), min_size=6, max_size=6), start=st.integers(0, 100))
def test_what_was_not_clipped_was_executed_as_requested(action, start):
    roomy = replace(
        TOY, low=(-0.2, -0.2, -0.2, -0.9, -0.9, -0.9), high=(0.2, 0.2, 0.2, 0.9, 0.9, 0.9), reset=(0.0,) * 6
    )
    env = RobotEnv(roomy, ScriptedArm(roomy), success=Judge())
    env.reset(seed=start)
    *_, info = env.step(np.array(action, dtype=np.float32))
    np.testing.assert_allclose(info["requested_action"], np.array(action, dtype=np.float32), rtol=0, atol=0)
    np.testing.assert_allclose(info["executed_action"], info["requested_action"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("corner", list(product((-1.0, 1.0), repeat=6)))
def test_no_corner_of_the_action_cube_is_longer_than_one_step(corner):
    level = replace(
        TOY, target=(0.5, 0.0, 0.2, 0.0, 0.0, 0.0), low=(-0.2,) * 3 + (-0.9,) * 3, high=(0.2,) * 3 + (0.9,) * 3
    )
    env = RobotEnv(level, ScriptedArm(level), success=Judge())
    env.reset(seed=0, options={"offset": (0.0,) * 6})
    *_, info = env.step(np.array(corner))
    np.testing.assert_allclose(info["executed_action"], corner, atol=1e-6)


def test_what_the_box_clipped_is_recorded_as_executed():
    arm = ScriptedArm(follow=1.0)
    env = RobotEnv(TOY, arm, success=Judge())
    env.reset(seed=0, options={"offset": (0.0, 0.0, -0.005, 0.0, 0.0, 0.0)})
    *_, info = env.step(np.array([0, 0, 1.0, 0, 0, 0]))
    np.testing.assert_allclose(info["requested_action"], [0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(info["executed_action"], [0, 0, 0.25, 0, 0, 0], atol=1e-6)
    assert arm.commands[-1].tcp_pose[2] == pytest.approx(TOY.target[2] + TOY.low[2])


def test_what_the_arm_says_it_sent_is_recorded_as_executed():
    arm = ScriptedArm(follow=1.0)
    env = RobotEnv(TOY, arm, success=Judge())
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    arm.script_sends(lambda command: replace(command, tcp_pose=arm.pose.copy()))
    *_, info = env.step(DOWN)
    np.testing.assert_allclose(info["executed_action"], 0.0, atol=1e-6)


def test_an_action_beyond_one_counts_as_one():
    env = RobotEnv(TOY, ScriptedArm(), success=Judge())
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    *_, info = env.step(np.array([7.0, 0, -1e30, 0, 0, 0]))
    np.testing.assert_allclose(info["requested_action"], [1, 0, -1, 0, 0, 0])


def test_commands_start_from_the_measured_pose_not_from_the_last_command():
    arm = ScriptedArm(follow=0.0)
    env = RobotEnv(TOY, arm, success=Judge())
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    for _ in range(3):
        env.step(DOWN)
    heights = [command.tcp_pose[2] for command in arm.commands]
    np.testing.assert_allclose(heights, TOY.target[2] + 0.03, atol=1e-9)  # a stuck arm's reference does not wind up


def test_the_gripper_opens_closes_and_keeps():
    task = replace(TOY, gripper=True)
    arm = ScriptedArm(task)
    env = RobotEnv(task, arm, success=Judge())
    env.reset(seed=0)
    for wish in (0.0, 0.5, 0.4, -0.4, -0.5, 0.0):
        *_, info = env.step(np.array([0, 0, 0, 0, 0, 0, wish]))
        assert info["executed_action"].shape == (7,)
    assert [command.gripper for command in arm.commands] == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]


def test_an_action_of_the_wrong_shape_is_the_callers_mistake_and_stops_nothing():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(7,\); give \(6,\)"):
        env.step(np.zeros(7))
    assert env.fault is None
    assert not arm.stops
    env.step(STILL)


def test_a_humans_action_replaces_the_policys_and_both_are_recorded():
    device = ScriptedIntervention([None, np.array([0, 0, -2.0, 0, 0, 0])])
    env = RobotEnv(TOY, ScriptedArm(follow=1.0), success=Judge(), intervention=device)
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    *_, first = env.step(DOWN)
    *_, second = env.step(DOWN)
    assert "intervene_action" not in first
    np.testing.assert_allclose(second["requested_action"], DOWN)
    np.testing.assert_allclose(second["intervene_action"], -DOWN)
    np.testing.assert_allclose(second["executed_action"], -DOWN, atol=1e-6)


# Reward and the ends of an episode


def test_success_is_terminal_and_rewarded_in_the_tasks_units():
    task = replace(TOY, reward_scale=10.0, reward_shift=-2.0)
    env = RobotEnv(task, ScriptedArm(follow=1.0))
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.022, 0.0, 0.0, 0.0)})
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["succeed"]) == (-2.0, False, False, False)
    _, reward, terminated, truncated, info = env.step(DOWN)
    assert (reward, terminated, truncated, info["succeed"]) == (8.0, True, False, True)


def test_the_time_limit_is_truncation():
    env = RobotEnv(TOY, ScriptedArm(), success=Judge())
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(TOY.max_steps)]
    assert ends == [(False, False)] * (TOY.max_steps - 1) + [(False, True)]


def test_success_on_the_last_step_is_terminal_not_truncation():
    steps = iter(range(TOY.max_steps))
    env = RobotEnv(TOY, ScriptedArm(), success=Judge(lambda state: next(steps) == TOY.max_steps - 1))
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(TOY.max_steps)]
    assert ends[-1] == (True, False)


def test_after_its_end_an_episode_takes_no_step():
    env = RobotEnv(replace(TOY, max_steps=1), ScriptedArm(), success=Judge())
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(STILL)
    env.reset(seed=0)
    env.step(STILL)
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        env.step(STILL)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ((0.0, 0.0, 0.003, 0.0, 0.0, 0.1), True),
        ((0.015, 0.0, 0.0, 0.0, 0.0, 0.0), True),
        ((0.0, 0.0, 0.005, 0.0, 0.0, 0.0), False),
        ((0.02, 0.02, 0.0, 0.0, 0.0, 0.0), True),
        ((0.022, 0.022, 0.0, 0.0, 0.0, 0.0), False),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.21), False),
    ],
)
def test_success_by_geometry(offset, expected):
    state = ArmState(at_offset(offset), np.zeros(6), np.zeros(6), np.array(HOME_RAD), 0.0, 0.0)
    assert GeometricSuccess(TOY)(state, {}) is expected


def test_success_sees_each_observation_and_hears_of_each_episode():
    judge = Judge()
    env = RobotEnv(TOY, ScriptedArm(), success=judge)
    for episode in range(3):
        env.reset(seed=episode)
        assert (judge.begun, len(judge.seen)) == (episode + 1, 2 * episode)
        for _ in range(2):
            obs, *_ = env.step(DOWN)
            np.testing.assert_array_equal(judge.seen[-1]["state"], obs["state"])


def test_the_truth_is_told_beside_success_and_decides_nothing():
    judge, truth = Judge(lambda state: len(judge.seen) == 3), Judge(lambda state: len(truth.seen) == 2)
    env = RobotEnv(TOY, ScriptedArm(), success=judge, truth=truth)
    env.reset(seed=0)
    told = [env.step(STILL) for _ in range(3)]
    assert [(info["truth"], info["succeed"]) for *_, info in told] == [(False, False), (True, False), (False, True)]
    assert [(terminated, info["raw_reward"]) for _, _, terminated, _, info in told] == [
        (False, 0.0), (False, 0.0), (True, 1.0)
    ]  # fmt: skip
    assert truth.begun == 1
    env.reset(seed=1)
    assert truth.begun == 2
    without = RobotEnv(TOY, ScriptedArm())
    without.reset(seed=0)
    assert "truth" not in without.step(STILL)[-1]


def test_a_step_that_a_fault_cuts_short_has_not_succeeded_in_truth():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm, success=Judge(), truth=Judge(lambda state: True))
    env.reset(seed=0)
    arm.script_reads(ConnectionError("unplugged"))
    *_, info = env.step(STILL)
    assert "fault" in info
    assert info["truth"] is False


# Starts and seeds


def rollout(seed, options=None):
    env = RobotEnv(TOY, ScriptedArm(noise_m=0.001), success=Judge())
    obs, _ = env.reset(seed=seed, options=options)
    rng = np.random.default_rng(0)
    return np.array([obs["state"]] + [env.step(rng.uniform(-1, 1, 6))[0]["state"] for _ in range(10)])


def test_a_seed_decides_everything():
    np.testing.assert_array_equal(rollout(1), rollout(1))
    assert not np.array_equal(rollout(1), rollout(2))


def test_one_seed_is_many_episodes():
    env = RobotEnv(TOY, ScriptedArm())
    starts = [env.reset(seed=3)[1]["start_offset"]] + [env.reset()[1]["start_offset"] for _ in range(20)]
    assert len({tuple(start) for start in starts}) == 21
    spread = np.abs(np.array(starts) - TOY.reset).max(axis=0)
    assert (spread <= TOY.reset_range).all()
    assert (spread[[0, 1, 2, 5]] > 0.6 * np.array(TOY.reset_range)[[0, 1, 2, 5]]).all()


def test_a_fixed_start_leaves_the_scene_to_the_seed():
    offset = (0.01, -0.01, 0.06, 0.0, 0.0, 0.2)
    fixed = rollout(5, {"offset": offset})
    np.testing.assert_allclose(fixed[0][4:10], offset, atol=1e-6)
    noise, same_noise = np.diff(fixed[:3, 4:7], axis=0), np.diff(rollout(5, {"offset": offset})[:3, 4:7], axis=0)
    np.testing.assert_array_equal(noise, same_noise)
    assert not np.array_equal(fixed, rollout(6, {"offset": offset}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": (0.0, 0.0, 0.2, 0.0, 0.0, 0.0)}, "outside the box"),
        ({"offset": (0.0, 0.0, np.nan, 0.0, 0.0, 0.0)}, "six finite numbers"),
        ({"offset": (0.0, 0.0)}, "six finite numbers"),
        ({"offset": (0.0, 0.0, 0.0, 0.0, 0.0, 6.28)}, "outside the box"),
        ({"start": 3}, "unknown"),
    ],
)
def test_a_start_that_cannot_be_is_refused_before_anything_moves(options, message):
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0, options=options)
    assert not arm.paths
    assert env.fault is None
    env.reset(seed=0)


def test_evaluation_starts_are_fixed_evenly_spread_and_a_prefix_of_longer_lists():
    starts, more = evaluation_starts(TOY, 20), evaluation_starts(TOY, 100)
    offsets = np.array([start.offset for start in starts])
    np.testing.assert_array_equal(offsets, np.array([start.offset for start in more[:20]]))
    assert len({start.seed for start in more}) == 100
    span = np.array(TOY.reset_range)
    assert (np.abs(offsets - TOY.reset) <= span).all()
    assert (offsets[:, 3:5] == 0.0).all()
    for axis in (0, 1, 2, 5):  # every fifth of every axis has its share, near enough, of twenty
        counts, _ = np.histogram((offsets[:, axis] - TOY.reset[axis]) / span[axis], bins=5, range=(-1, 1))
        assert counts.min() >= 2, counts
    env = RobotEnv(TOY, ScriptedArm())
    for start in starts:
        obs, _ = env.reset(seed=start.seed, options={"offset": start.offset})
        np.testing.assert_allclose(obs["state"][4:10], start.offset, atol=1e-6)


def test_spaces_need_no_arm_and_construction_does_not_connect():
    arm = ScriptedArm()
    env = RobotEnv(TOY, arm)
    assert arm.connections == 0
    env.reset(seed=0)
    env.reset()
    assert arm.connections == 1
    env.close()
    env.close()
    assert arm.closed == 2
