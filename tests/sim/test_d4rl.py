"""What every D4RL task keeps: gymnasium's rules, seeds, states, limits, errors, pictures."""

import pickle
import re
import warnings
from functools import cache

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim.d4rl_tasks import d4rl_tasks

NAMES = list(d4rl_tasks())
# One task of each environment class: what the class alone decides is tested on these.
KINDS = list({task.env: name for name, task in reversed(d4rl_tasks().items())}.values())


@cache
def _env(name: str, copy: int = 0):
    return d4rl_tasks()[name].make()


def _actions(env, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, env.task.action_dim))


def _run(env, actions) -> list[tuple]:
    """What the steps give, to their end or the last action."""
    found = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        found.append((observation.tolist(), reward, terminated, truncated, info["success"]))
        if terminated or truncated:
            break
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_a_task_says_fits_its_environment(name):
    task, env = d4rl_tasks()[name], _env(name)
    assert env.observation_space.shape == (task.obs_dim,)
    assert env.action_space.shape == (task.action_dim,) == (env.model.nu,)
    assert (env.action_space.low == -1.0).all()
    assert (env.action_space.high == 1.0).all()
    assert task.hz == pytest.approx(1.0 / (env.model.opt.timestep * env.frame_skip))
    low, high = task.reference
    assert (task.normalized(low, False), task.normalized(high, True)) == pytest.approx((0.0, 100.0))
    assert pickle.loads(pickle.dumps(task)).name == name  # processes are handed it
    for words in (task.what, task.success, task.reward):
        assert words


@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_no_fault(name):
    with warnings.catch_warnings():
        # Advice: a box without bounds is meant.
        warnings.filterwarnings("ignore", message=r".*A Box observation space (min|max)imum value is")
        check_env(_env(name), skip_render_check=True, skip_close_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_reset_and_step_give(name):
    env = _env(name)
    first, info = env.reset(seed=0)
    assert info["success"] is False
    kept = first.copy()
    observation, reward, terminated, truncated, info = env.step(_actions(env, 1)[0].astype(np.float32))
    assert first.dtype == observation.dtype == np.float64
    assert np.isfinite(observation).all()
    assert [type(x) for x in (reward, terminated, truncated, info["success"])] == [float, bool, bool, bool]
    assert np.array_equal(first, kept), "an observation changed after it was given"


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_all_that_follows(name):
    env, other = _env(name), _env(name, 1)
    actions = _actions(env, 6)
    starts, runs = [], []
    for which, seed in ((env, 11), (other, 11), (env, 12)):
        starts.append(which.reset(seed=seed)[0])
        runs.append(_run(which, actions))
        starts.append(which.reset()[0])  # the next episode
    assert np.array_equal(starts[0], starts[2])
    assert np.array_equal(starts[1], starts[3])
    assert runs[0] == runs[1]
    assert not np.array_equal(starts[0], starts[4])
    assert not np.array_equal(starts[0], starts[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_continued_to_the_bit(name):
    """In the environment itself, and in another that has been elsewhere."""
    env, other = _env(name), _env(name, 1)
    env.reset(seed=3)
    _run(env, _actions(env, 4))
    state = env.get_state()
    kept = {key: value.copy() for key, value in state.items()}
    after = _actions(env, 5, seed=1)
    expected = _run(env, after)
    end = env.get_state()
    assert all(np.array_equal(kept[key], state[key]) for key in kept), "stepping changed a state that was given out"

    env.set_state(state)
    assert _run(env, after) == expected
    other.reset(seed=99)
    _run(other, _actions(env, 3, seed=2))
    other.reset(seed=98, options={"state": state})
    assert _run(other, after) == expected
    assert other.get_state().keys() == end.keys()
    assert all(np.array_equal(other.get_state()[key], end[key]) for key in end)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_state_is_refused_and_changes_nothing(name):
    env = _env(name)
    env.reset(seed=0)
    state = env.get_state()
    wrong = {
        "'qpos' is missing": {key: value for key, value in state.items() if key != "qpos"},
        "'wind' is unknown": {**state, "wind": np.zeros(1)},
        "qvel is not": {**state, "qvel": np.zeros(3)},
        "qpos is not": {**state, "qpos": np.full_like(state["qpos"], np.nan)},
    }
    for words, value in wrong.items():
        with pytest.raises(ValueError, match=re.escape(f"state of {name}: {words}")) as error:
            env.set_state(value)
        assert "\n" not in str(error.value)
        assert all(np.array_equal(env.get_state()[key], state[key]) for key in state)
    with pytest.raises(ValueError, match="reset option 'wind' is unknown; the only one is 'state'"):
        env.reset(options={"wind": 1})


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_cut_at_its_limit_and_not_before(name):
    env = _env(name)
    env.reset(seed=0)
    env.steps = env.task.max_steps - 2
    still = np.zeros(env.task.action_dim)
    assert env.step(still)[2:4] == (False, False)
    assert env.step(still)[2:4] == (False, True)
    env.reset(seed=0)
    assert env.step(still)[3] is False


def test_an_end_at_the_limit_is_an_end_and_no_cut():
    env = _env("hopper")
    env.reset(seed=0)
    lying = {"qpos": [0.0, 1.25, 1.0, 0.0, 0.0, 0.0], "qvel": np.zeros(6), "steps": env.task.max_steps - 1}
    env.set_state(lying)
    assert env.step(np.zeros(3))[2:4] == (True, False)


@pytest.mark.parametrize("name", NAMES)
def test_an_action_is_clipped(name):
    env = _env(name)
    env.reset(seed=0)
    state, far = env.get_state(), 7.0 * np.sign(_actions(env, 1) + 1e-9)
    found = _run(env, far)
    env.set_state(state)
    assert _run(env, np.sign(far)) == found
    env.set_state(state)
    assert _run(env, 0.5 * np.sign(far)) != found


@pytest.mark.parametrize("name", KINDS)
def test_a_picture(name):
    env = d4rl_tasks()[name].make("rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (360, 480, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 20.0
    assert env.metadata["render_fps"] == round(env.task.hz)
    env.close()
    env.close()


def test_there_is_no_picture_where_none_was_asked_for():
    env = _env("hopper")
    env.reset(seed=0)
    assert env.render() is None
    with pytest.raises(ValueError, match="render_mode 'human': there is 'rgb_array'"):
        d4rl_tasks()["hopper"].make("human")
