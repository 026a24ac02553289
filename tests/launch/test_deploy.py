"""A checkpoint on an arm, without a learner."""

import json
from pathlib import Path

import pytest

from launch.attendant import nobody
from launch.deploy import Deployment, deploy
from launch.rig import Rig
from launch.runs import read_lines


def script(path: Path, *lines: dict) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"script:{path}"


def test_it_acts_counts_and_writes_down(segue, pretrained, tmp_path):
    record = tmp_path / "new" / "episodes.jsonl"
    code, out, err = segue("deploy", pretrained, "--episodes", "3", "--record", record, "--json")
    told, rows = json.loads(out), read_lines(record)
    assert code == 0, err
    assert (told["episodes"], told["stopped"]) == (3, None)
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert told["success"] == sum(row["success"] for row in rows)
    assert all(1 <= row["env_steps"] <= 45 and row["human_steps"] == 0 for row in rows)
    assert err.count("episode ") == 3


def test_the_same_seed_is_the_same_and_starts_differ(pretrained):
    def run(seed: int) -> list:
        found = []
        deploy(pretrained, Deployment(episodes=2, seed=seed), False, Rig(), found.append)
        return found

    assert run(1) == run(1)
    with pytest.raises(ValueError, match="--episodes -1: give at least 1"):
        Deployment(episodes=-1)


def test_a_human_says_how_it_went_and_a_discarded_episode_does_not_count(pretrained, tmp_path):
    lines = ({}, {"verdict": "discard"}, {"action": [0.0] * 6}, {"verdict": "success"}, {"verdict": "failure"})
    rig, found = Rig(intervene=script(tmp_path / "human.jsonl", *lines)), []
    told = deploy(pretrained, Deployment(episodes=2), False, rig, found.append)
    assert [(each.number, each.success, each.env_steps, each.human_steps) for each in found] == [
        (0, True, 2, 1),
        (1, False, 1, 0),
    ]
    assert (told["episodes"], told["success"]) == (2, 1)


def test_a_twins_fault_is_acknowledged_and_it_goes_on(pretrained, tmp_path):
    rig, found = Rig(intervene=script(tmp_path / "human.jsonl", {"verdict": "stop"})), []
    told = deploy(pretrained, Deployment(episodes=2), False, rig, found.append)
    assert (found[0].fault is None, found[1].fault) == (False, None)
    assert told["stopped"] is None


def test_a_robots_fault_ends_it_with_exit_code_1(segue, pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr("launch.rig.attendant_of", lambda *about: nobody)  # nobody acknowledges a robot's but a human
    human = script(tmp_path / "human.jsonl", {}, {"verdict": "stop"})
    code, out, err = segue("deploy", pretrained, "--intervene", human, "--json")
    assert code == 1
    assert json.loads(out)["episodes"] == 1
    assert json.loads(out)["stopped"]
    assert "stopped: " in err
