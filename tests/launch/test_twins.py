"""The twins' fidelity check: what it measures, what it refuses, and that a worse twin fails it."""

import json
import re
import shutil

import numpy as np
import pytest

from launch import twins
from sim.adroit_hand import AdroitEnv
from sim.adroit_scenes import DoorEnv
from sim.d4rl_tasks import find_d4rl_task
from sim.expert import Expert
from tests.d4rl_data import demonstration_data

IDLE = Expert(  # does nothing
    (np.zeros((1, 39)), np.zeros((1, 1)), np.zeros((28, 1))),
    (np.zeros(1), np.zeros(1), np.zeros(28)),
    *(np.zeros(39), np.ones(39), np.zeros(28), np.ones(28), np.zeros(28)),
)


def test_the_twins_pass_in_a_few_episodes():
    found = twins.verify(demonstration_data(), episodes=4)
    assert json.loads(json.dumps(found)) == found
    correlation, difference_rad, again, pen, door = found["checks"]
    assert [check["ok"] for check in (correlation, difference_rad, again, door)] == [True] * 4
    assert (again["found"], again["wanted"], again["ok"]) == (7, [7, 7], True)
    assert (correlation["found"] > 0.97, 0.0 < difference_rad["found"] < 0.02) == (True, True)
    assert door["success"] == 1.0
    # One pen in four is not turned: four episodes are a check of the arithmetic only.
    assert (pen["name"], pen["episodes"]) == ("expert: normalised score of pen", 4)
    assert pen["found"] == pytest.approx(find_d4rl_task("pen").normalized(pen["mean_return"], True))
    assert pen["ok"] == (95.0 <= pen["found"] <= 110.0)
    assert found["ok"] == all(check["ok"] for check in found["checks"])


def test_a_pen_expert_succeeds_more_often_than_not():
    expert = Expert.load(demonstration_data() / twins.EXPERTS["pen"])
    returns, successes = twins.expert_episodes(find_d4rl_task("pen"), expert, 20)
    assert np.mean(successes) >= 0.6
    assert np.all(returns[successes] > 500.0)
    assert np.all(returns[~successes] < 1500.0)


@pytest.mark.parametrize("gain", [1.0, 10.0])
def test_a_worse_twin_is_told(gain, tmp_path, monkeypatch):
    """A wrist as weak as a finger; at 10 N·m/rad it is D4RL's."""
    with np.load(demonstration_data() / twins.DEMONSTRATIONS) as file:
        content = dict(file)
    content["episode_ends"] = content["episode_ends"][:5]
    np.savez(tmp_path / "few.npz", **content)
    monkeypatch.setattr("sim.adroit_hand.WRIST_GAIN", gain)
    recorded, reached = twins.door_angles(tmp_path / "few.npz")
    assert recorded.shape == reached.shape == (5,)
    assert (np.mean(np.abs(recorded - reached)) > twins.MOST_DIFFERENCE_RAD) == (gain == 1.0)


def test_an_experts_episodes_end_where_the_task_ends(monkeypatch):
    """Also without an expert's file: one that does nothing, on doors that are open from step 50 on."""
    lengths = []
    judge = AdroitEnv._judge
    monkeypatch.setattr(DoorEnv, "_succeeded", lambda env: env.steps >= 50)
    monkeypatch.setattr(AdroitEnv, "_judge", lambda env, action: (lengths.append(env.steps), judge(env, action))[1])
    returns, successes = twins.expert_episodes(find_d4rl_task("door-binary"), IDLE, 2)
    assert (returns.tolist(), successes.tolist()) == ([-49.0, -49.0], [True, True])
    assert lengths == [*range(1, 51)] * 2


def test_an_episode_succeeds_if_any_of_its_steps_does(monkeypatch):
    monkeypatch.setattr(DoorEnv, "_succeeded", lambda env: env.steps == 50)
    assert twins.expert_episodes(find_d4rl_task("door"), IDLE, 1)[1].tolist() == [True]


def test_a_replay_begins_where_the_recording_does():
    """With the arm where it was, also along its slide; the recorded start says it was at zero."""
    env = find_d4rl_task("door").make()
    with np.load(demonstration_data() / twins.DEMONSTRATIONS) as file:
        seen = file["observations"][file["episode_ends"][2] + 1]  # the fourth, less its foreign first row
        start = {name: file[f"init_{name}"][3] for name in twins.STARTS}
    found = twins._begin(env, start, seen)
    env.close()
    np.testing.assert_allclose(found, seen, atol=0.002)


@pytest.mark.parametrize(("found", "ok"), [(0.94, False), (0.95, True), (1.0, True), (1.01, False), (np.nan, False)])
def test_a_check_is_passed_between_least_and_most(found, ok):
    assert twins._check("name", found, 0.95, 1.0)["ok"] is ok


def test_a_folder_without_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^\S* has no adroit_door_human25\.npz; give the folder of .*$"):
        twins.verify(tmp_path)


@pytest.mark.parametrize("name", [twins.DEMONSTRATIONS, *twins.EXPERTS.values()])
def test_a_file_that_is_something_else_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(twins, "_replay", twins._replay if name == twins.DEMONSTRATIONS else lambda path: [])
    monkeypatch.setattr(twins, "_play", lambda task, expert, episodes: [])
    for file in (twins.DEMONSTRATIONS, *twins.EXPERTS.values()):
        shutil.copy(demonstration_data() / file, tmp_path)
        (tmp_path / file).chmod(0o644)
    for content in (b"", b"PK", b"something else"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(name) + r".* cannot be read .*; give [^\n]*$"):
            twins.verify(tmp_path)
    with (tmp_path / name).open("wb") as file:
        np.savez(file, other=np.zeros(3))
    with pytest.raises(ValueError, match=re.escape(name) + r": [^\n]*; give [^\n]*$"):
        twins.verify(tmp_path)


def test_no_episodes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^episodes is 0; an expert has to play at least 1$"):
        twins.verify(tmp_path, 0)
