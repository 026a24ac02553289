"""A classifier as a reward: so many steps in a row, each episode anew."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.classifier import About, Classifier, HeadShape, encode
from encoders.classifier_training import Fit, deal_folds, train
from encoders.trunk import Trunk, random_trunk
from launch.classifier_reward import ClassifierReward
from robot_env.arm import Frame
from robot_env.env import RobotEnv
from robot_env.success import GeometricSuccess
from tests.robot_env.scripted_arm import TOY, ScriptedArm, reading

CAMERAS = ("left", "right")
SIZE = 32


def frame(bright: bool, noise: int = 0, size: int = SIZE) -> np.ndarray:
    """A picture that is bright, or dark."""
    rng = np.random.default_rng(noise)
    return (rng.integers(0, 30, (size, size, 3)) + (200 if bright else 20)).astype(np.uint8)


def trained(trunk: Trunk, cameras: tuple[str, ...], size: int, consecutive: int) -> Classifier:
    """One that takes bright pictures for success."""
    label = np.arange(40) % 2 == 0
    frames = {c: np.stack([frame(y, i, size) for i, y in enumerate(label)]) for c in cameras}
    shape, fit = HeadShape(bottleneck=4), Fit(updates=40, batch_size=16, learning_rate=1e-2, every=10)
    fold = deal_folds(label, np.arange(40), 0)
    found = train(encode(trunk, frames, cameras)[None], label, fold, 0, fit, shape)
    about = About(
        task="toy",
        cameras=cameras,
        frame_shape=(size, size, 3),
        trunk=trunk.name,
        fingerprint=trunk.fingerprint,
        threshold=found.threshold,
        temperature=found.temperature,
        consecutive=consecutive,
        provenance="a test",
        head=shape,
    )
    return Classifier(about, found.params)


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    return random_trunk("resnet10", 0)


@pytest.fixture(scope="module")
def classifier(trunk) -> Classifier:
    return trained(trunk, CAMERAS, SIZE, 2)


def see(reward: ClassifierReward, bright: bool) -> bool:
    state = reading()(ScriptedArm().read())
    return reward(state, {"state": np.zeros(19, np.float32), **{name: frame(bright, 77) for name in CAMERAS}})


@settings(max_examples=25, deadline=None)
@given(episodes=st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=4), consecutive=st.integers(1, 4))
def test_success_is_so_many_in_a_row_and_each_episode_counts_anew(trunk, classifier, episodes, consecutive):
    about = replace(classifier.about, consecutive=consecutive)
    reward = ClassifierReward(replace(classifier, about=about), trunk)
    for bright in episodes:
        reward.begin()
        for step, shown in enumerate(bright):
            wanted = step + 1 >= consecutive and all(bright[step + 1 - consecutive : step + 1])
            assert see(reward, shown) is wanted
            assert (reward.score > about.threshold) is shown


def test_every_camera_counts(trunk, classifier):
    reward, state = ClassifierReward(classifier, trunk), reading()(ScriptedArm().read())
    scores = []
    for seen in ({"left": True, "right": True}, {"left": True, "right": False}, {"left": False, "right": True}):
        reward(state, {name: frame(bright, 77) for name, bright in seen.items()})
        scores.append(reward.score)
    assert scores[0] > max(scores[1:]) + 0.01


def test_it_rewards_an_arm_and_the_truth_stands_beside_it(trunk):
    """The camera shows brightness from the second step on; the arm is nowhere near its target."""
    task = replace(TOY, cameras=("wrist_1",))
    arm = ScriptedArm(task)
    bright, noise = [False], count()
    arm.cameras["wrist_1"].read = lambda: Frame(frame(bright[0], next(noise), 128), arm.clock_s)
    reward = ClassifierReward(trained(trunk, ("wrist_1",), 128, 2), trunk)
    env = RobotEnv(task, arm, success=reward, truth=GeometricSuccess(task))
    env.reset(seed=0, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    told = []
    for bright[0] in (False, True, True):
        told.append(env.step(np.zeros(6))[2:])
    assert [(terminated, info["succeed"], info["truth"]) for terminated, _, info in told] == [
        (False, False, False),
        (False, False, False),
        (True, True, False),
    ]
    env.reset(seed=1, options={"offset": (0.0, 0.0, 0.05, 0.0, 0.0, 0.0)})
    assert not env.step(np.zeros(6))[2]  # the steps of the episode before do not count
    assert env.step(np.zeros(6))[2]
