"""`make_env`, adding a task, and what this folder may import."""

import sys

import numpy as np
import pytest

import robot_env
import robot_env.tasks
from robot_env.make import ARMS, make_arm, make_env
from robot_env.tasks import find_task, task_names
from tests.robot_env.scripted_arm import TOY, ScriptedArm


def test_names_make_an_environment():
    env = make_env("peg_insertion", arm="twin", timestep_s=0.005)
    assert type(env.arm).__name__ == "TwinArm"
    env.reset(seed=0)
    env.close()


def test_an_arm_that_is_there_already_is_taken_as_it_is():
    arm = ScriptedArm()
    assert make_env(TOY, arm).arm is arm
    with pytest.raises(ValueError, match="nowhere to go"):
        make_env(TOY, arm, timestep_s=0.005)


def test_unknown_names_are_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"arm 'kuka' is unknown; choose one of .*twin"):
        make_arm(TOY, "kuka")
    with pytest.raises(ValueError, match=r"task 'juggling' is unknown; choose one of .*peg_insertion"):
        make_env("juggling")


def test_a_task_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "reach.py").write_text(
        "from dataclasses import replace\n"
        "from robot_env.tasks.peg_insertion import TASK as PEG\n"
        "TASK = replace(PEG, name='reach', max_steps=3)\n"
    )
    monkeypatch.setattr(robot_env.tasks, "__path__", [*robot_env.tasks.__path__, str(tmp_path)])
    assert "reach" in task_names()
    task = find_task("reach")
    env = make_env("reach", ScriptedArm(task))
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample() * 0.0)[3] for _ in range(3)]
    assert ends == [False, False, True]
    monkeypatch.delitem(sys.modules, "robot_env.tasks.reach")


def test_an_arm_is_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "toy_arm.py").write_text(
        "from tests.robot_env.scripted_arm import ScriptedArm\n\n\nclass ToyArm(ScriptedArm):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ARMS, "toy", ("toy_arm", "ToyArm"))
    env = make_env("peg_insertion", arm="toy", follow=1.0)
    env.reset(seed=0)
    assert type(env.arm).__name__ == "ToyArm"
    _, reward, _, _, info = env.step(np.zeros(6))
    assert reward == env.task.reward_shift
    assert not info["succeed"]
    env.close()
