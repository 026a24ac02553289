"""Every task through the one place that knows both kinds."""

import numpy as np
import pytest

from launch import catalogue
from launch.actor import episode_seed
from launch.build import journal_info, networks_of, obs_shapes_of
from launch.recipes import Learning
from launch.tasks import find_task, info_of, make_env, normalized_score, offset_of, spaces_of, task_names, trial_starts
from robot_env.tasks import Task
from sim.d4rl_tasks import d4rl_tasks, get_normalized_score

NAMES = task_names()
SPOKEN = ["peg_insertion", "narrow_passage", "door-binary", "antmaze-umaze", "kitchen-partial", "hopper"]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_says_what_a_run_needs(name):
    task = find_task(name)
    observed, action = spaces_of(task)
    assert task.name == name
    assert action.shape == (task.action_dim,)
    info = info_of(task, "made up")
    assert (info.task, info.discount, info.provenance) == (name, task.discount, "made up")
    assert info.reward
    assert info.truncation_value == task.truncation_value <= 0.0
    layout = journal_info(task, "").layout
    assert {key: shape for key, (_, shape) in layout.obs.items()} == {key: s.shape for key, s in observed.items()}
    assert networks_of(task, Learning()).action_dim == task.action_dim
    assert obs_shapes_of(task) == {"state": observed["state"].shape}
    starts = trial_starts(task, 3)
    assert [s.seed for s in starts] == [s.seed for s in trial_starts(task, 5)[:3]]
    assert len({s.seed for s in starts}) == 3


@pytest.mark.parametrize("name", ["peg_insertion", "narrow_passage"])
def test_drawn_trials_are_a_seeds_own_and_none_of_its_episodes(name):
    task = find_task(name)
    few, more, other = (trial_starts(task, n, "drawn", seed) for n, seed in ((2, 5), (9, 5), (9, 6)))
    assert [s.seed for s in few] == [s.seed for s in more[:2]]
    learned = {episode_seed(5, i, actor) for i in range(50) for actor in range(3)}
    fixed = {s.seed for s in trial_starts(task, 50)}
    assert len({s.seed for s in (*more, *other)} - learned - fixed) == 18
    if isinstance(task, Task):
        off = np.abs([s.options["offset"] - np.asarray(task.reset) for s in more])
        assert (off <= np.asarray(task.reset_range) + 1e-12).all()
        assert len(np.unique(off[:, 0])) == 9


@pytest.mark.parametrize("name", SPOKEN)
def test_environments_of_both_kinds_speak_alike(name):
    task = find_task(name)
    env = make_env(task)
    start = trial_starts(task, 1)[0]
    first = env.reset(seed=start.seed, options=dict(start.options))[0]
    again = env.reset(seed=start.seed, options=dict(start.options))[0]
    np.testing.assert_array_equal(first["state"], again["state"])
    obs, reward, terminated, truncated, info = env.step(np.zeros(task.action_dim))
    assert obs["state"].shape == spaces_of(task)[0]["state"].shape
    assert {"succeed", "raw_reward", "requested_action", "executed_action"} <= set(info)
    assert not terminated
    assert not truncated
    assert np.isfinite(reward)
    assert (offset_of(task, obs) is None) == (not isinstance(task, Task))
    env.close()


def test_the_small_task_stands_between_the_arms_and_d4rl_s():
    pegs = [f"peg_insertion{variant}" for variant in ("", "_blind", "_franka", "_image")]
    assert NAMES[:5] == [*pegs, "narrow_passage"]
    assert NAMES[5:] == list(d4rl_tasks())
    listed = next(t for t in catalogue.tasks()["tasks"] if t["name"] == "narrow_passage")
    assert (listed["observation"], listed["action"], listed["max_steps"]) == ({"state": [4]}, [2], 60)
    assert listed["scored"] == {"what": "return", "reference": [-60.0, -17.0]}
    assert listed["reward"] == "1 x (0 at the goal, else -1) +0"


def test_only_tasks_without_an_arm_have_a_normalised_score():
    assert normalized_score(find_task("peg_insertion"), 1.0, True) is None
    assert normalized_score(find_task("narrow_passage"), -38.5, True) == 50.0
    assert normalized_score(find_task("hopper"), 3234.3, False) == pytest.approx(100.0)
    assert normalized_score(find_task("door-binary"), -199.0, True) == 100.0
    assert normalized_score(find_task("kitchen-partial"), 3.0, False) == 75.0


def test_a_score_of_returns_is_only_for_tasks_that_are_scored_so():
    assert get_normalized_score("hopper", [3234.3, -20.272305]) == pytest.approx(50.0)
    with pytest.raises(ValueError, match="'door-binary' is scored by success"):
        get_normalized_score("door-binary", 0.0)


def test_what_data_sets_record_is_a_sum_or_a_running_count():
    counts = np.array([0.0, 1.0, 1.0, 3.0, 3.0])
    assert find_task("kitchen-partial").recorded_return(counts) == 3.0
    assert find_task("hopper").recorded_return(counts) == 8.0


def test_a_simulated_task_has_no_other_arm():
    with pytest.raises(ValueError, match="'franky': task 'hopper' is simulated only"):
        make_env(find_task("hopper"), "franky")


def test_an_unknown_task_is_refused_with_all_names():
    with pytest.raises(ValueError, match=r"'hoper' is unknown; choose one of peg_insertion, .*hopper"):
        find_task("hoper")
