"""The arm itself: kinematics, inertias, limits."""

import mujoco
import numpy as np
import panda_py
import pytest
from panda_py import constants
from scipy.spatial.transform import Rotation

from sim import panda


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return panda.build().compile()


def test_forward_kinematics_agree_with_panda_py_on_1000_joint_vectors(model):
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    for q in rng.uniform(panda.LOWER_RAD, panda.UPPER_RAD, (1000, 7)):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        reference = panda_py.fk(q)
        site = data.site("tcp")
        assert np.abs(site.xpos - reference[:3, 3]).max() < 1e-5
        turn = Rotation.from_matrix(site.xmat.reshape(3, 3) @ reference[:3, :3].T)
        assert turn.magnitude() < 1e-5


def test_joint_limits_are_the_published_ones(model):
    assert np.allclose(model.jnt_range[:7, 0], constants.JOINT_LIMITS_LOWER, atol=1e-4)
    assert np.allclose(model.jnt_range[:7, 1], constants.JOINT_LIMITS_UPPER, atol=1e-4)
    assert np.allclose(model.jnt_actfrcrange[:7, 1], [87, 87, 87, 87, 12, 12, 12])


def test_compiled_masses_and_inertias_are_the_published_ones(model):
    for i, (mass_kg, com_m, inertia) in enumerate(panda.LINKS):
        body = model.body(f"link{i}")
        assert body.mass == pytest.approx(mass_kg)
        assert body.ipos == pytest.approx(com_m)
        # MuJoCo keeps principal moments; turn them back into the link's axes.
        axes = Rotation.from_quat(body.iquat, scalar_first=True).as_matrix()
        tensor = axes @ np.diag(body.inertia) @ axes.T
        xx, yy, zz, xy, xz, yz = inertia
        published = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert tensor == pytest.approx(published, abs=1e-6)  # the compiler rounds
    assert sum(m for m, _, _ in panda.LINKS[1:]) == pytest.approx(16.06, abs=0.01)


def test_gravity_is_compensated(model):
    data = mujoco.MjData(model)
    data.qpos[:7] = panda.HOME_RAD
    mujoco.mj_forward(model, data)
    weight = data.qfrc_bias[:7] - data.qfrc_gravcomp[:7]
    assert np.abs(data.qfrc_bias[:7]).max() > 10.0
    assert np.abs(weight).max() < 1e-9
