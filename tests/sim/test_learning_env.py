"""A D4RL task as a learner knows it: training rewards, sticky success, and what is not finite."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.d4rl_tasks import find_d4rl_task
from sim.learning_env import LearningEnv

DOOR, KITCHEN = find_d4rl_task("door-binary"), find_d4rl_task("kitchen-mixed")
STILL = np.zeros(28, np.float32)


@pytest.fixture
def door():
    env = LearningEnv(DOOR)
    yield env
    env.close()


def opened(env: LearningEnv, angle_rad: float) -> None:
    """Puts the door at an angle, at rest."""
    state = env.twin.get_state()
    state["qpos"][-2] = angle_rad
    env.twin.set_state(state)


@pytest.mark.filterwarnings("ignore:.*infinity.*:UserWarning")  # what joints and velocities may be has no bound
def test_it_is_a_gymnasium_environment(door):
    check_env(door, skip_render_check=True)


def test_the_reward_is_scaled_and_shifted_and_the_score_is_not(door):
    door.reset(seed=0)
    obs, reward, terminated, truncated, info = door.step(STILL)
    assert (reward, terminated, truncated) == (-5.0, False, False)
    assert (info["raw_reward"], info["succeed"]) == (-1.0, False)
    assert obs["state"].dtype == np.float32
    opened(door, 1.5)
    _, reward, terminated, truncated, info = door.step(STILL)
    assert (reward, terminated, truncated) == (5.0, True, False)
    assert (info["raw_reward"], info["succeed"]) == (0.0, True)


def test_success_stays_in_an_episode_that_goes_on_and_goes_with_it():
    env = LearningEnv(find_d4rl_task("door"))
    env.reset(seed=0)
    opened(env, 1.5)
    assert env.step(STILL)[4]["succeed"]
    opened(env, 0.0)
    _, _, terminated, _, info = env.step(STILL)
    assert info["succeed"]
    assert not terminated
    env.reset(seed=1)
    assert not env.step(STILL)[4]["succeed"]


def test_a_kitchen_learns_from_what_is_complete_and_is_scored_by_what_is_new():
    env = LearningEnv(KITCHEN)
    env.reset(seed=0)
    state = env.twin.get_state()
    state["completed"][:2] = 1.0
    env.twin.set_state(state)
    _, reward, _, _, info = env.step(np.zeros(9, np.float32))
    assert (reward, info["raw_reward"]) == (-2.0, 0.0)


def test_what_it_was_asked_for_is_clipped(door):
    door.reset(seed=0)
    info = door.step(np.full(28, 3.0))[4]
    np.testing.assert_array_equal(info["requested_action"], np.ones(28))
    np.testing.assert_array_equal(info["executed_action"], np.ones(28))
    assert info["requested_action"].dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_no_number_ends_the_episode_as_a_failure(door, bad):
    before, _ = door.reset(seed=0)
    action = STILL.copy()
    action[3] = bad
    obs, reward, terminated, truncated, info = door.step(action)
    assert (reward, terminated, truncated) == (-5.0, False, True)
    assert "not finite" in info["fault"]
    np.testing.assert_array_equal(obs["state"], before["state"])
    door.acknowledge("a test")
    door.reset(seed=1)
    assert "fault" not in door.step(STILL)[4]


def test_a_simulation_that_is_no_number_ends_the_episode(door):
    door.reset(seed=0)
    door.twin.data.site_xpos[:] = 0.0
    door.twin._observe = lambda: np.full(39, np.nan)
    obs, _, terminated, truncated, info = door.step(STILL)
    assert (terminated, truncated) == (False, True)
    assert "simulation" in info["fault"]
    assert np.isfinite(obs["state"]).all()


def test_an_action_of_another_shape_is_refused(door):
    door.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3,\); give \(28,\)"):
        door.step(np.zeros(3))


def test_what_an_episode_cut_short_is_worth():
    assert DOOR.truncation_value == pytest.approx(-5.0 / 0.01)  # -5 for ever
    assert find_d4rl_task("antmaze-umaze").truncation_value == pytest.approx(-500.0)
    assert find_d4rl_task("hopper").truncation_value == 0.0
    assert replace(DOOR, reward_scale=1.0, reward_shift=0.0).truncation_value == pytest.approx(-100.0)
