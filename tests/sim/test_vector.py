"""Environments in processes, with real ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sim import vector
from sim.d4rl_tasks import find_d4rl_task
from sim.vector import make_vector

ROOT = Path(__file__).resolve().parents[2]
HOPPER, CHEETAH = find_d4rl_task("hopper"), find_d4rl_task("halfcheetah")


def _alive(workers) -> list[bool]:
    return [process.is_alive() for process in workers.processes]


@pytest.fixture(scope="module")
def hoppers():
    workers = make_vector(HOPPER, 3)
    yield workers
    workers.close()
    assert not any(_alive(workers))


def _compare(workers, task, seed: int, steps: int) -> tuple[int, int]:
    """Steps both; returns how many episodes ended and how many of them were cut short."""
    singles = [task.make() for _ in range(workers.num_envs)]
    first = np.array([env.reset(seed=seed + i)[0] for i, env in enumerate(singles)])
    assert np.array_equal(workers.reset(seed=seed)[0], first)
    start = task.max_steps - steps // 2  # half way the limit comes
    workers.set_attr("steps", start)
    for env in singles:
        env.steps = start
    rng, ended, cut = np.random.default_rng(seed), 0, 0
    for _ in range(steps):
        actions = rng.uniform(-1.0, 1.0, (workers.num_envs, task.action_dim)).astype(np.float32)
        observations, rewards, terminated, truncated, infos = workers.step(actions)
        for i, env in enumerate(singles):
            last, reward, end, limit, info = env.step(actions[i])
            assert (rewards[i], terminated[i], truncated[i]) == (reward, end, limit)
            over = end or limit
            if over:
                assert np.array_equal(infos["final_obs"][i], last)
                assert infos["final_info"]["reward_forward"][i] == info["reward_forward"]
                ended, cut = ended + 1, cut + limit
            assert bool(infos.get("_final_obs", np.zeros(workers.num_envs, bool))[i]) == over
            assert np.array_equal(observations[i], env.reset()[0] if over else last)
    return ended, cut


def test_equals_single_environments_where_episodes_terminate(hoppers):
    ended, cut = _compare(hoppers, HOPPER, seed=4, steps=100)
    assert ended - cut >= 3


def test_equals_single_environments_where_episodes_are_truncated():
    workers = make_vector(CHEETAH, 2)
    assert _compare(workers, CHEETAH, seed=0, steps=10) == (2, 2)
    workers.close()
    workers.close()
    assert not any(_alive(workers))


def test_each_has_a_seed_of_its_own(hoppers):
    together = hoppers.reset(seed=[5, 5, 6])[0]
    assert np.array_equal(together[0], together[1])
    assert not np.array_equal(together[0], together[2])
    assert np.array_equal(hoppers.reset(seed=5)[0][1], together[2])


def test_observations_are_copies(hoppers):
    before = hoppers.reset(seed=0)[0]
    kept = before.copy()
    hoppers.step(np.ones((3, 3), np.float32))
    assert np.array_equal(before, kept)


def test_states_can_be_fetched_and_set(hoppers):
    hoppers.reset(seed=1)
    state = hoppers.call("get_state")[1]
    observations, _ = hoppers.reset(options={"state": state})
    assert np.array_equal(observations[0], observations[2])


@pytest.mark.filterwarnings("ignore:.*ERROR")  # gymnasium's way to show a worker's traceback
def test_an_error_of_an_environment_comes_through():
    workers = make_vector(HOPPER, 1)
    with pytest.raises(ValueError, match="'wind' is unknown"):
        workers.reset(options={"wind": 1})
    workers.close()
    assert not any(_alive(workers))


@pytest.mark.parametrize("act", ["step", "reset", "call"])
def test_a_worker_that_dies_is_an_error_within_seconds(act):
    workers = make_vector(HOPPER, 2)
    workers.reset(seed=0)
    os.kill(workers.processes[1].pid, signal.SIGKILL)
    acts = {
        "step": lambda: workers.step(np.zeros((2, 3), np.float32)),
        "reset": workers.reset,
        "call": lambda: workers.call("get_state"),
    }
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=r"hopper: worker 1 \(exit code -9\) died; all are ended, make new ones"):
        acts[act]()
    assert time.monotonic() - begun < 5.0
    assert not any(_alive(workers))
    workers.close()


def test_a_worker_that_hangs_is_an_error(monkeypatch):
    monkeypatch.setattr(vector, "SILENCE_S", 1.0)
    workers = make_vector(HOPPER, 2)
    os.kill(workers.processes[0].pid, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="a worker said nothing for 1 s; all are ended"):
        workers.reset()
    assert not any(_alive(workers))


def test_closing_needs_no_answer():
    workers = make_vector(HOPPER, 2)
    os.kill(workers.processes[0].pid, signal.SIGKILL)
    workers.close()
    assert not any(_alive(workers))


def test_none_at_all_is_refused():
    with pytest.raises(ValueError, match="count is 0; ask for at least 1"):
        make_vector(HOPPER, 0)


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from sim.vector import make_vector\n"
        "from sim.d4rl_tasks import find_d4rl_task\n"
        "make_vector(find_d4rl_task('hopper'), 1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert found.returncode != 0
    assert "a worker of hopper did not start" in found.stderr
