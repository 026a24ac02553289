"""The native actuators against the written law."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_env.arm import GAINS
from sim import panda
from sim.control_law import impedance_wrench, joint_torque

STEPS = 20


def _references(bench) -> list[np.ndarray]:
    """A path at 10 Hz in free space that saturates every axis now and then."""
    rng, shift, turn, out = np.random.default_rng(3), np.array([0.0, 0.0, 0.09]), np.zeros(3), []
    for _ in range(STEPS):
        shift = np.clip(shift + rng.uniform(-0.02, 0.02, 3), [-0.04, -0.04, 0.07], [0.04, 0.04, 0.11])
        turn = np.clip(turn + rng.uniform(-0.04, 0.04, 3), -0.08, 0.08)
        out.append(bench.pose(shift, turn))
    return out


def _simulate_law(bench, references) -> list[np.ndarray]:
    """TCP poses after each reference, by the written law in Python on the same arm without its own controller."""
    arm = bench.arm
    model, start, rest = arm.model, arm.data.qpos[:7].copy(), arm.model.qpos_spring[:7].copy()
    model.actuator_biasprm[:] = 0.0
    model.jnt_stiffness[:] = model.dof_damping[:] = 0.0
    data, site, jacobian, velocity = mujoco.MjData(model), model.site("tcp").id, np.empty((6, 7)), np.empty(6)
    data.qpos[:7] = start
    poses = []
    for reference in references:
        for _ in range(100):
            mujoco.mj_step1(model, data)
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
            turned = Rotation.from_matrix(data.site_xmat[site].reshape(3, 3)).as_quat()
            pose, velocity = np.concatenate([data.site_xpos[site], turned]), jacobian @ data.qvel
            wrench = impedance_wrench(pose, velocity, reference, GAINS["compliant"])
            data.qfrc_applied[:] = joint_torque(
                wrench, jacobian, data.qpos, data.qvel, rest, panda.NULLSPACE_STIFFNESS, panda.NULLSPACE_DAMPING
            )
            mujoco.mj_step2(model, data)
        mujoco.mj_kinematics(model, data)
        turned = Rotation.from_matrix(data.site_xmat[site].reshape(3, 3)).as_quat()
        poses.append(np.concatenate([data.site_xpos[site], turned]))
    return poses


def _follow(bench, references) -> list[np.ndarray]:
    poses = []
    for reference in references:
        bench.send(reference)
        poses.append(bench.arm.read().tcp_pose)
    return poses


def _distance(a: list[np.ndarray], b: list[np.ndarray]) -> tuple[float, float]:
    """The largest difference of two paths, m and rad."""
    a, b = np.array(a), np.array(b)
    turn = (Rotation.from_quat(a[:, 3:]) * Rotation.from_quat(b[:, 3:]).inv()).magnitude()
    return float(np.abs(a[:, :3] - b[:, :3]).max()), float(turn.max())


def test_actuators_follow_the_written_law_at_1_khz(make_bench):
    bench = make_bench(still=True, timestep_s=0.001)
    bench.reset((0.0, 0.0, 0.09))
    references = _references(bench)
    native = _follow(bench, references)
    bench.reset((0.0, 0.0, 0.09))
    law = _simulate_law(bench, references)
    still = [native[0]] * STEPS
    assert _distance(native, still)[0] > 0.02  # it moved
    far_m, far_rad = _distance(native, law)
    assert far_m < 0.001  # of which 0.2 mm is the integrator, the rest the posture spring without its projector
    assert far_rad < 0.005


def test_1_ms_and_2_ms_agree(make_bench):
    paths = []
    for timestep_s in (0.001, 0.002):
        bench = make_bench(still=True, timestep_s=timestep_s)
        bench.reset((0.0, 0.0, 0.09))
        paths.append(_follow(bench, _references(bench)))
    far_m, far_rad = _distance(*paths)
    assert far_m < 0.0001
    assert far_rad < 0.001


@pytest.mark.parametrize("mode", ["compliant", "precise"])
@pytest.mark.parametrize("axis", range(6))
@pytest.mark.parametrize("sign", [1, -1])
def test_largest_force_is_stiffness_times_clip(make_bench, mode, axis, sign):
    bench, gains = make_bench(still=True), GAINS[mode]
    clip = [*gains.translational_clip_m, *[gains.rotational_clip_rad] * 3]
    stiffness = gains.translational_stiffness if axis < 3 else gains.rotational_stiffness
    bench.reset((0.0, 0.0, 0.09))
    offset = np.zeros(6)
    offset[axis] = sign * 0.3
    bench.arm._set_mode(mode)
    goal = np.concatenate([bench.pose((0.0, 0.0, 0.09))[:3] + offset[:3], bench.pose()[3:]])
    goal[3:] = (Rotation.from_quat(goal[3:]) * Rotation.from_rotvec(offset[3:])).as_quat()
    bench.arm._set_reference(goal)
    mujoco.mj_forward(bench.arm.model, bench.arm.data)
    spring = bench.arm.data.actuator_force[:6]
    assert spring[axis] == pytest.approx(sign * stiffness * clip[axis], rel=1e-9)
    assert np.abs(np.delete(spring, axis)).max() < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_a_constant_error_pushes_with_the_clipped_force_against_a_wall(make_bench, sign):
    """Inserted half-way, the walls feel clip x stiffness in x: 8 mm x 2000 N/m, and no more."""
    bench = make_bench(still=True)
    bench.reset((0.0, 0.0, 0.012))
    bench.send(bench.pose((sign * 0.05, 0.0, 0.012)), steps=15)
    assert abs(bench.arm.read().wrench[0]) == pytest.approx(16.0, abs=1.0)


def test_the_law_clips_each_axis_and_damps():
    gains = replace(GAINS["compliant"], translational_damping=10.0, rotational_damping=1.0)
    here, there = np.array([0, 0, 0, 0, 0, 0, 1.0]), np.array([1.0, -1.0, 0.001, 0, 0, 0, 1.0])
    wrench = impedance_wrench(here, np.array([0, 0, 0.1, 0, 0, 0.5]), there, gains)
    assert wrench == pytest.approx([16.0, -6.0, 1.0, 0.0, 0.0, -0.5])
