"""The arm under joint torques: it moves as torques say, and feels what it touches."""

import mujoco
import numpy as np
import pytest

from robot_env.tasks import find_task
from sim import panda
from sim.torque_arm import TorqueArm

PEG = find_task("peg_insertion")


@pytest.fixture
def arm():
    return TorqueArm(PEG)


def jacobian(arm) -> np.ndarray:
    out = np.zeros((6, 7))
    mujoco.mj_jacSite(arm.model, arm.data, out[:3], out[3:], arm.model.site("tcp").id)
    return out


def test_without_torque_it_stays(arm):
    for _ in range(200):
        arm.step(np.zeros(7))
    np.testing.assert_allclose(arm.q, panda.HOME_RAD, atol=1e-9)
    assert arm.clock_ms == 200


def test_a_torque_moves_its_joint_as_the_mass_matrix_says(arm):
    mass = np.zeros((7, 7))
    mujoco.mj_fullM(arm.model, arm.data, mass)
    torque = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    arm.step(torque)
    np.testing.assert_allclose(arm.dq, np.linalg.solve(mass, torque) * 1e-3, rtol=1e-3, atol=1e-9)


def test_it_follows_joints(arm):
    goal = panda.HOME_RAD + 0.1
    for i in range(1500):
        share = min(i / 1000, 1.0)
        speed = 100.0 * (goal - panda.HOME_RAD) * 0.001 if share < 1.0 else np.zeros(7)
        arm.step(arm.follow(panda.HOME_RAD + share * (goal - panda.HOME_RAD), speed * 10.0))
    np.testing.assert_allclose(arm.q, goal, atol=1e-4)


def test_torques_are_cut_at_what_the_joints_can_do(arm):
    arm.step(np.full(7, 1000.0))
    np.testing.assert_array_equal(arm.torque, panda.TORQUE_LIMIT_NM)


def test_a_push_into_the_box_is_felt_as_hard_as_it_is(arm):
    """Pressed down on the box with 15 N, at rest, the world pushes back with 15 N."""
    goal = np.array([PEG.target[0] + 0.02, PEG.target[1], 0.3])
    for _ in range(4000):  # down beside the hole, with a soft spring on the TCP and 15 N of pull at most
        now, jac = arm.tcp[:3, 3], jacobian(arm)
        goal[2] = max(goal[2] - 1e-4, 0.0)
        pull = np.clip(1500.0 * (goal - now), -15.0, 15.0) - 80.0 * jac[:3] @ arm.dq
        upright = np.cross(arm.tcp[:3, 2], [0.0, 0.0, -1.0]) * 40.0 - 5.0 * jac[3:] @ arm.dq
        arm.step(jac.T @ np.concatenate([pull, upright]) - 0.5 * arm.dq)
    assert np.abs(arm.dq).max() < 0.02
    assert arm.wrench[2] == pytest.approx(15.0, abs=1.5)
    np.testing.assert_allclose(arm.external, jacobian(arm).T @ arm.wrench, atol=1e-9)
