"""The Adroit scenes' dense rewards, term by term against figures worked by hand, and the hammer's angles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim.adroit import TASKS
from sim.adroit_hand import AdroitEnv
from sim.adroit_scenes import euler_xyz


@pytest.fixture
def make():
    """Makes the environment of a task, at the start of an episode, and closes it afterwards."""
    envs = []

    def new(name: str) -> AdroitEnv:
        envs.append(next(task for task in TASKS if task.name == name).make())
        envs[-1].reset(seed=0)
        return envs[-1]

    yield new
    for env in envs:
        env.close()


def test_the_pens_reward_by_hand(make):
    env = make("pen")

    def terms(shift_m: tuple[float, float, float], cosine: float) -> dict[str, float]:
        env.pen[:] = env.place + np.array(shift_m)
        for ends, direction in (
            (env.pen_ends, (0.0, 0.0, 1.0)),
            (env.target_ends, (np.sqrt(1 - cosine**2), 0.0, cosine)),
        ):
            ends[1][:] = 0.0
            ends[0][:] = 0.13 * np.array(direction)  # a pen is 0.13 m long
        return env.reward_terms()

    assert list(terms((0.03, 0.04, 0.0), 0.8).values()) == pytest.approx([-0.05, 0.8, 0.0, 0.0, 0.0])
    assert list(terms((0.03, 0.04, 0.0), 0.92).values()) == pytest.approx([-0.05, 0.92, 10.0, 0.0, 0.0])
    assert list(terms((0.03, 0.04, 0.0), 0.96).values()) == pytest.approx([-0.05, 0.96, 10.0, 50.0, 0.0])
    assert list(terms((0.06, 0.08, 0.0), 0.96).values()) == pytest.approx([-0.1, 0.96, 0.0, 0.0, 0.0])
    assert list(terms((0.0, 0.0, -0.18), 0.96).values()) == pytest.approx([-0.18, 0.96, 0.0, 0.0, -5.0])
    assert list(terms((0.0, 0.0, -0.17), 0.96).values()) == pytest.approx([-0.17, 0.96, 0.0, 0.0, 0.0])


def test_the_doors_reward_by_hand(make):
    env = make("door")
    env.palm[:], env.handle[:] = (0.1, 0.2, 0.3), (0.1, 0.5, 0.7)  # 0.5 m apart
    env.data.qvel[:] = 0.0
    env.data.qvel[:2] = 30.0, 40.0
    for angle, bonuses in (
        (0.07, [0, 0, 0]),
        (0.57, [2, 0, 0]),
        (1.07, [2, 8, 0]),
        (1.35, [2, 8, 0]),
        (1.37, [2, 8, 10]),
    ):
        env.hinge[:] = angle
        missing = {0.07: 2.25, 0.57: 1.0, 1.07: 0.25, 1.35: 0.0484, 1.37: 0.04}[angle]
        assert list(env.reward_terms().values()) == pytest.approx([-0.05, -0.1 * missing, -0.025, *bonuses])


def test_relocates_reward_by_hand(make):
    env = make("relocate")
    env.target[:] = 0.0, 0.0, 0.2
    env.palm[:], env.ball[:] = (0.3, 0.4, 0.035), (0.0, 0.0, 0.035)  # 0.5 m apart, the ball on the table
    assert list(env.reward_terms().values()) == pytest.approx([-0.05, 0, 0, 0, 0, 0])
    env.palm[:], env.ball[:] = (0.3, 0.4, 0.2), (0.06, 0.08, 0.2)  # the ball 0.1 m and the palm 0.5 m from the target
    assert list(env.reward_terms().values()) == pytest.approx([-0.04, 1, -0.25, -0.05, 0, 0])
    env.ball[:] = 0.048, 0.064, 0.2  # 0.08 m
    assert list(env.reward_terms().values()) == pytest.approx([-0.042, 1, -0.25, -0.04, 10, 0])
    env.ball[:] = 0.024, 0.032, 0.2  # 0.04 m
    assert list(env.reward_terms().values()) == pytest.approx([-0.046, 1, -0.25, -0.02, 10, 20])


def test_hammers_reward_by_hand(make):
    env = make("hammer")
    env.data.qvel[:] = 0.0
    env.data.qvel[:2] = 3.0, 4.0
    env.palm[:], env.hammer[:], env.head[:] = (0.3, 0.4, 0.03), (0.0, 0.0, 0.03), (0.0, 0.0, 0.2)
    env.nail[:], env.hole[:] = (0.06, 0.08, 0.2), (0.06, 0.05, 0.2)  # the nail 0.03 m out, the head 0.1 m from it
    assert list(env.reward_terms().values()) == pytest.approx([-0.05, -0.1, -0.3, -0.05, 0, 0, 0])
    env.palm[2] = env.hammer[2] = 0.05
    for out_m, bonuses in ((0.021, [0, 0]), (0.015, [25, 0]), (0.009, [25, 75])):
        env.hole[:] = 0.06, 0.08 - out_m, 0.2
        assert list(env.reward_terms().values()) == pytest.approx([-0.05, -0.1, -10 * out_m, -0.05, 2, *bonuses])
    env.head[2] = 0.03
    assert env.reward_terms()["lifted"] == 0.0


@given(quaternion=st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_euler_angles_are_about_the_turned_axes_in_turn(quaternion):
    rotation = Rotation.from_quat(quaternion)
    found = euler_xyz(rotation.as_matrix().ravel())
    assert np.abs((Rotation.from_euler("XYZ", found) * rotation.inv()).magnitude()) < 1e-6
    assert abs(found[1]) <= np.pi / 2


def test_euler_angles_upright_leave_the_first_at_zero():
    found = euler_xyz(np.array([0.0, 0.0, 1.0, 0.6, 0.8, 0.0, -0.8, 0.6, 0.0]))
    np.testing.assert_allclose(found, [0.0, np.pi / 2, np.arctan2(0.6, 0.8)])
