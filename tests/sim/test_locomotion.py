"""HalfCheetah, Hopper, Walker2d against gymnasium's own v4 classes: same state, same action, same step to the bit."""

from functools import cache

import numpy as np
import pytest
from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v4 import Walker2dEnv
from hypothesis import given
from hypothesis import strategies as st

from sim.locomotion import TASKS

BY_NAME = {task.name: task for task in TASKS}
THEIRS = {"halfcheetah": HalfCheetahEnv, "hopper": HopperEnv, "walker2d": Walker2dEnv}
SIZES = {"halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6)}
FALLING = ("hopper", "walker2d")


@cache
def _pair(name: str):
    return BY_NAME[name].make(), THEIRS[name]()


@pytest.mark.parametrize("name", SIZES)
def test_facts(name):
    task = BY_NAME[name]
    assert (task.obs_dim, task.action_dim) == SIZES[name]
    assert task.max_steps == 1000
    assert (task.reward_scale, task.reward_shift, task.failure_reward, task.scored) == (1.0, 0.0, None, "return")
    assert task.normalized(task.reference[1], False) == 100.0
    assert set(BY_NAME) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("seed", [0, 7])
def test_an_episode_is_gymnasiums_to_the_bit(name, seed):
    """From the same seed: the start, every step, and the fall."""
    ours, theirs = _pair(name)
    observation, _ = ours.reset(seed=seed)
    assert np.array_equal(observation, theirs.reset(seed=seed)[0])
    rng, steps = np.random.default_rng(seed), 0
    terminated = False
    while not terminated and steps < 150:
        action = rng.uniform(-1.0, 1.0, ours.task.action_dim)
        observation, reward, terminated, truncated, _ = ours.step(action)
        expected, expected_reward, expected_end, _, _ = theirs.step(action)
        steps += 1
        assert np.array_equal(observation, expected)
        assert reward == expected_reward
        assert (terminated, truncated) == (expected_end, False)
    assert terminated == (name in FALLING)


@given(data=st.data(), name=st.sampled_from(list(SIZES)))
def test_a_step_from_any_state_is_gymnasiums(data, name):
    """Also where it falls, leans to the limit, or moves faster than what is shown."""
    ours, theirs = _pair(name)
    nq, nv = ours.model.nq, ours.model.nv
    qpos = np.array(data.draw(st.lists(st.floats(-0.3, 0.3), min_size=nq, max_size=nq)))
    qpos[1] += data.draw(st.sampled_from([0.0, 0.5, 0.7, 0.8, 1.25, 2.0]))
    qpos[2] += data.draw(st.sampled_from([-1.0, -0.2, 0.0, 0.2, 1.0]))
    fast = data.draw(st.sampled_from([1.0, 30.0, 200.0]))
    qvel = fast * np.array(data.draw(st.lists(st.floats(-1.0, 1.0), min_size=nv, max_size=nv)))
    action = np.array(data.draw(st.lists(st.floats(-1.0, 1.0), min_size=SIZES[name][1], max_size=SIZES[name][1])))
    ours.reset(seed=0), theirs.reset(seed=0)
    theirs.set_state(qpos, qvel)
    ours.set_state({"qpos": qpos, "qvel": qvel, "warmstart": theirs.data.qacc_warmstart})
    observation, reward, terminated, _, info = ours.step(action)
    expected, expected_reward, expected_end, _, _ = theirs.step(action)
    assert np.array_equal(observation, expected)
    assert reward == expected_reward
    assert terminated == expected_end
    assert reward == pytest.approx(info["reward_forward"] + info["reward_alive"] + info["reward_control"], rel=1e-12)
    assert info["success"] is False


@pytest.mark.parametrize(
    ("name", "index", "value", "down"),
    [
        ("hopper", 1, 0.71, False),
        ("hopper", 1, 0.69, True),
        ("hopper", 1, 3.0, False),
        ("hopper", 2, 0.19, False),
        ("hopper", 2, 0.21, True),
        ("hopper", 2, -0.21, True),
        ("walker2d", 1, 0.81, False),
        ("walker2d", 1, 0.79, True),
        ("walker2d", 1, 1.99, False),
        ("walker2d", 1, 2.01, True),
        ("walker2d", 2, 0.99, False),
        ("walker2d", 2, 1.01, True),
        ("walker2d", 2, -1.01, True),
        ("halfcheetah", 1, -0.3, False),
        ("halfcheetah", 2, 3.0, False),
    ],
)
def test_where_it_is_down(name, index, value, down):
    """Height in m is position 1, lean in rad is 2; a step moves them by less than 0.01 from rest."""
    env, _ = _pair(name)
    env.reset(seed=0)
    qpos = np.zeros(env.model.nq)
    qpos[1] = 0.0 if name == "halfcheetah" else 1.25
    if name in FALLING:
        qpos[3::3] = -1.5  # thighs up, so that low is not in the ground
    qpos[index] = value
    env.set_state({"qpos": qpos, "qvel": np.zeros(env.model.nv)})
    assert env.step(np.zeros(env.task.action_dim))[2] is down


@pytest.mark.parametrize(("speed", "down"), [(99.0, False), (101.0, True), (-101.0, True)])
def test_a_hopper_is_down_at_a_hundred_metres_a_second(speed, down):
    env, _ = _pair("hopper")
    env.reset(seed=0)
    env.set_state({"qpos": [0.0, 3.0, 0.0, 0.0, 0.0, 0.0], "qvel": [speed, 0.0, 0.0, 0.0, 0.0, 0.0]})  # in the air
    assert env.step(np.zeros(3))[2] is down


@pytest.mark.parametrize("name", SIZES)
def test_speeds_are_shown_up_to_ten_except_the_cheetahs(name):
    env, _ = _pair(name)
    state = {"qpos": np.zeros(env.model.nq), "qvel": np.full(env.model.nv, 25.0)}
    observation, _ = env.reset(options={"state": state})
    shown = observation[env.model.nq - 1 :]
    assert np.array_equal(shown, np.full(env.model.nv, 10.0 if name in FALLING else 25.0))


def test_the_walkers_feet_are_as_unequal_as_in_v2():
    env, _ = _pair("walker2d")
    assert env.model.geom("foot_geom").friction[0] == 0.9
    assert env.model.geom("foot_left_geom").friction[0] == 1.9


@pytest.mark.parametrize(("name", "width", "spread"), [("halfcheetah", 0.1, 0.1), ("hopper", 0.005, 0.005 / 3**0.5)])
def test_the_noise_of_the_start(name, width, spread):
    """Positions are uniform; the cheetah's speeds are normal, the others' uniform."""
    env, _ = _pair(name)
    env.reset(seed=3)
    starts = [(env.reset(), env.data.qpos - env.model.qpos0, env.data.qvel.copy())[1:] for _ in range(300)]
    positions, speeds = (np.array(x) for x in zip(*starts, strict=True))
    assert 0.95 * width < np.abs(positions).max() <= width
    assert positions.std() == pytest.approx(width / 3**0.5, rel=0.05)
    assert speeds.std() == pytest.approx(spread, rel=0.05)
    assert (np.abs(speeds).max() > 2 * width) == (name == "halfcheetah")
