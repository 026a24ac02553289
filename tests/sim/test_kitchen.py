"""The kitchen's semantics against D4RL's, its physics against gymnasium-robotics'."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.kitchen import ELEMENTS, START, TASKS

BY_NAME = {task.name: task for task in TASKS}
SLIDER = {"microwave", "kettle", "light switch", "slide cabinet"}
ASKED = {
    "kitchen-complete": SLIDER,
    "kitchen-partial": SLIDER,
    "kitchen-mixed": {"microwave", "kettle", "bottom burner", "light switch"},
}
# D4RL's OBS_ELEMENT_GOALS by place in the 30 positions.
GOALS = {
    "bottom burner": {11: -0.88, 12: -0.01},
    "light switch": {17: -0.69, 18: -0.05},
    "slide cabinet": {19: 0.37},
    "microwave": {22: -0.75},
    "kettle": {23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99, 29: -0.06},
}
# A tenth of D4RL's pos_noise_amp.
AMPLITUDE = np.array([0.01] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [0.01] * 3 + [5e-4] * 3 + [0.01] * 3 + [5e-4])
STILL = np.zeros(9)
ACTIONS = st.lists(st.floats(-1.0, 1.0), min_size=9, max_size=9).map(np.array)


@cache
def _env(name: str = "kitchen-complete"):
    return BY_NAME[name].make()


def _begin(env, *done: str, completed: tuple[str, ...] = (), noise: int = 0, **moved: float) -> np.ndarray:
    """An episode in which the elements `done` are at their goals, and others are `moved` to a first coordinate."""
    qpos = START.copy()
    for element in done:
        where, goal = ELEMENTS[element]
        qpos[where] = goal
    for element, value in moved.items():
        qpos[ELEMENTS[element][0].start] = value
    flags = [element in completed for element in env.task.settings["elements"]]
    state = {"qpos": qpos, "qvel": np.zeros(29), "completed": flags, "noise": noise}
    return env.reset(options={"state": state})[0]


@pytest.mark.parametrize("name", ASKED)
def test_facts(name):
    task = BY_NAME[name]
    assert set(task.settings["elements"]) == ASKED[name]
    assert (task.obs_dim, task.action_dim, task.max_steps, task.hz) == (60, 9, 280, 12.5)
    assert (task.reward_scale, task.reward_shift, task.failure_reward, task.scored) == (1.0, -4.0, None, "return")
    assert (task.normalized(0.0, False), task.normalized(4.0, True)) == (0.0, 100.0)
    assert task.truncation_value == 0.0
    assert set(BY_NAME) == set(ASKED)


@pytest.mark.parametrize("name", ASKED)
def test_the_goal_is_shown_and_is_zero_where_nothing_is_asked(name):
    expected = np.zeros(30)
    for element in ASKED[name]:
        for place, value in GOALS[element].items():
            expected[place] = value
    env = _env(name)
    observation, _ = env.reset(seed=1)
    assert np.array_equal(observation[30:], expected)
    assert np.array_equal(env.step(STILL)[0][30:], expected)


def test_positions_are_shown_robot_first_with_d4rls_noise():
    env = _env()
    env.reset(seed=0)
    errors = []
    for _ in range(400):
        errors.append(env.reset()[0][:30] - env.data.qpos)
        assert np.array_equal(env.data.qpos, START)
    errors = np.array(errors) / AMPLITUDE
    assert np.abs(errors).max() <= 1.0 + 1e-9  # the rounding of a difference
    assert (np.abs(errors).max(axis=0) > 0.97).all()
    assert np.abs(errors.mean(axis=0)).max() < 0.13  # 4.5 standard errors of a uniform mean of 400
    assert errors.std() == pytest.approx(3**-0.5, rel=0.02)
    assert np.abs(np.corrcoef(errors.T) - np.eye(30)).max() < 0.25


def test_the_noise_is_new_at_each_step_and_a_part_of_the_state():
    env = _env()
    first, _ = env.reset(seed=5)
    second = env.step(STILL)[0]
    noise = second[:30] - env.data.qpos
    assert not np.isclose(noise, first[:30] - START, atol=1e-7).any()
    assert np.array_equal(env.reset(options={"state": env.get_state()})[0], second)
    other = {**env.get_state(), "noise": 8.0}
    assert not np.isclose(env.reset(options={"state": other})[0][:30], second[:30], atol=1e-9).any()


@pytest.mark.parametrize(("name", "element"), [(name, element) for name in ASKED for element in ELEMENTS])
def test_an_element_pays_once_and_only_where_it_is_asked(name, element):
    env, asked = _env(name), element in ASKED[name]
    _begin(env, element)
    rewards = []
    for _ in range(3):
        _, reward, terminated, truncated, info = env.step(STILL)
        rewards.append(reward)
        assert info == {"success": False, "completed": [element] * asked, "training_reward": float(asked)}
        assert not terminated
        assert not truncated
    assert rewards == [float(asked), 0.0, 0.0]


@pytest.mark.parametrize("name", ASKED)
def test_all_four_end_the_episode_with_a_score_of_a_hundred(name):
    """One after the other; each is undone before the next, and stays complete."""
    env, score, training, done = _env(name), 0.0, [], []
    for element in sorted(ASKED[name]):
        _begin(env, element, completed=tuple(done))
        _, reward, terminated, _, info = env.step(STILL)
        done.append(element)
        score += reward
        training.append(info["training_reward"] + env.task.reward_shift)
        assert set(info["completed"]) == set(done)
        assert info["success"] is terminated is (len(done) == 4)
    assert score == 4.0
    assert training == [-3.0, -2.0, -1.0, 0.0]
    assert env.task.normalized(score, True) == 100.0


@pytest.mark.parametrize("name", ASKED)
def test_all_four_at_once(name):
    env = _env(name)
    _begin(env, *ASKED[name])
    _, reward, terminated, truncated, info = env.step(STILL)
    assert (reward, terminated, truncated, info["success"]) == (4.0, True, False, True)
    assert env.reset(seed=0)[1] == {"success": False}
    assert env.step(STILL)[4]["completed"] == []


@settings(max_examples=60)
@given(distance=st.floats(0.27, 0.33), noise=st.integers(0, 2**53 - 1))
def test_an_element_is_complete_where_it_is_seen_nearer_than_three_tenths(distance, noise):
    env = _env()
    _begin(env, noise=noise, microwave=-0.75 + distance)
    observation, reward, _, _, info = env.step(STILL)
    seen = abs(observation[22] + 0.75)
    assert reward == float(seen < 0.3)
    assert ("microwave" in info["completed"]) == (seen < 0.3)
    if abs(distance - 0.3) > 0.0101:
        assert reward == float(distance < 0.3)


def test_what_is_seen_decides_and_not_what_is_true():
    env, rewards = _env(), set()
    for noise in range(20):
        _begin(env, noise=noise, microwave=-0.75 + 0.3)
        rewards.add(env.step(STILL)[1])
    assert rewards == {0.0, 1.0}


def test_the_distance_is_over_all_coordinates_of_an_element():
    """The kettle 0.25 off in x and in y, 0.35 in all, is not there."""
    env = _env()
    _begin(env, "kettle")
    state = env.get_state()
    for shift, complete in (((0.1, 0.1), 1.0), ((0.25, 0.25), 0.0), ((0.25, 0.0), 1.0)):
        qpos = state["qpos"].copy()
        qpos[23:25] = np.array([-0.23, 0.75]) - shift
        qpos[25] = 1.75  # in the air, so that nothing is in its way
        env.reset(options={"state": {**state, "qpos": qpos}})
        assert env.step(STILL)[1] == complete


@given(first=ACTIONS, action=ACTIONS, seed=st.integers(0, 1000))
def test_a_target_is_a_speed_from_where_the_joint_was_seen_within_limits(first, action, seed):
    env = _env()
    env.reset(seed=seed)
    seen = env.step(first)[0][:9]
    env.step(action)
    low = [-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0]
    high = [2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04]
    np.testing.assert_allclose(env.data.ctrl, np.clip(seen + action * 2.0 * 0.08, low, high), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("end", "beyond"),
    [
        ([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0], -0.02),
        ([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04], 0.02),
    ],
)
def test_a_target_is_at_its_limit_for_a_joint_beyond_it(end, beyond):
    env, qpos = _env(), START.copy()
    qpos[:9] = np.array(end) + beyond
    env.reset(options={"state": {"qpos": qpos, "qvel": np.zeros(29), "completed": np.zeros(4), "noise": 0}})
    env.step(STILL)
    assert np.array_equal(env.data.ctrl, end)


def test_what_is_complete_is_a_part_of_the_state():
    env = _env()
    _begin(env, "kettle")
    env.step(STILL)
    state = env.get_state()
    env.reset(seed=0)
    env.set_state(state)
    _, reward, _, _, info = env.step(STILL)
    assert (reward, info["completed"]) == (0.0, ["kettle"])


def test_the_physics_are_gymnasium_robotics_to_the_bit():
    """Once its robot's measurement is ours, as its noise is another, and our pedestal can be touched as theirs."""
    kitchen_env = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    theirs, ours = kitchen_env.KitchenEnv(list(SLIDER)), BY_NAME["kitchen-complete"].make()
    other = np.flatnonzero(ours.model.geom_contype != theirs.model.geom_contype)
    assert np.array_equal(other, np.flatnonzero(ours.model.geom_conaffinity != theirs.model.geom_conaffinity))
    assert [tuple(ours.model.geom_size[geom][:2]) for geom in other] == [(0.12, 0.9)]  # the pedestal
    assert (ours.model.geom_contype[other] == 0).all()
    assert (ours.model.geom_conaffinity[other] == 0).all()
    ours.model.geom_contype[other] = ours.model.geom_conaffinity[other] = 1
    observation, _ = ours.reset(seed=0)
    theirs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(100):  # the arm meets the pedestal at the 91st
        action = rng.uniform(-1.0, 1.0, 9)
        theirs.robot_env._last_robot_qpos = observation[:9]
        theirs.step(action)
        observation = ours.step(action)[0]
        assert np.array_equal(ours.data.qpos, theirs.data.qpos)
        assert np.array_equal(ours.data.qvel, theirs.data.qvel)
    theirs.close()


@pytest.mark.parametrize(
    ("name", "value"), [("completed", [0, 0, 0.5, 0]), ("completed", [2, 0, 0, 0]), ("noise", -1.0), ("noise", 0.5)]
)
def test_a_state_that_cannot_be(name, value):
    env = _env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=rf"state of kitchen-complete: {name} is .*; give"):
        env.set_state({**env.get_state(), name: value})
