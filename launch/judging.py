"""Who judges success: a task's own geometry, or a classifier that sees what the cameras see."""

from pathlib import Path

import numpy as np

from agent.replay.dataset import Dataset
from encoders.classifier import load_classifier
from encoders.spatial import Vision
from launch.build import sight_of
from launch.classifier_reward import ClassifierReward
from launch.data_tools import stretches
from launch.tasks import AnyTask, Environment, make_env
from robot_env import make
from robot_env.success import GeometricSuccess
from robot_env.tasks import Task


def make_judged_env(task: AnyTask, arm: str, reward: str | None, vision: Vision, realtime: bool = False) -> Environment:
    """The environment of a task, in which a classifier judges where one is given; a twin tells the truth beside it.

    Args:
        reward: the classifier's folder; None for the task's own judgement.
        vision: whose trunk the classifier's features are of.

    Raises:
        ValueError: there are no cameras to judge by, or the classifier is of other ones or of another trunk.
    """
    if reward is None:
        return make_env(task, arm, realtime=realtime)
    judge = judge_of(task, reward, vision)
    assert isinstance(task, Task)
    truth = GeometricSuccess(task) if make.parse_arm(arm).simulated else None
    return make.make_env(task, arm, success=judge, truth=truth, realtime=realtime)


def judge_of(task: AnyTask, reward: str, vision: Vision) -> ClassifierReward:
    """The classifier in a folder as the judge of a task. Raises `ValueError` as `make_judged_env` does."""
    sight = sight_of(task, vision)
    if sight is None:
        raise ValueError(
            f"--reward {reward}: task {task.name!r} has no cameras, and a classifier judges by pictures; "
            "choose a task with cameras, or leave it out"
        )
    return ClassifierReward(load_classifier(Path(reward), sight.trunk, sight.cameras), sight.trunk)


def judged(dataset: Dataset, task: AnyTask, reward: str, vision: Vision) -> np.ndarray:
    """Whether the classifier in a folder sees success after each step of a data set, `(N,)` bool.

    As online: so many steps in a row; but what ended an episode needs no more of them, for none could follow.

    Raises:
        ValueError: the data has not the cameras that it judges by, or as `make_judged_env` does.
    """
    judge = judge_of(task, reward, vision)
    cameras = judge.about.cameras
    missing = [name for name in cameras if f"next_obs/{name}" not in dataset.columns]
    if missing:
        raise ValueError(f"data set: it has no pictures of {missing[0]!r}; give one that was recorded with cameras")
    frames = {name: dataset.columns[f"next_obs/{name}"] for name in cameras}
    above = judge.scores(frames) > judge.about.threshold
    done = np.zeros(len(dataset), bool)
    for part in stretches(dataset):
        in_a_row = 0
        for i in range(part.start, part.stop):
            in_a_row = in_a_row + 1 if above[i] else 0
            done[i] = in_a_row >= judge.about.consecutive
        done[part.stop - 1] |= above[part.stop - 1] and bool(dataset.columns["terminated"][part.stop - 1])
    return done
