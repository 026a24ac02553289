"""The Cartesian impedance law that the twin's actuators realise, written out: the reference they are tested against."""

import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.arm import Gains


def impedance_wrench(pose: np.ndarray, velocity: np.ndarray, reference: np.ndarray, gains: Gains) -> np.ndarray:
    """Wrench `(6,)`, N and N·m in base axes, that pulls the TCP to the reference.

    `F = K clip(e) - D v`, SERL's law without its integral term. The position error `e` and its clip are along the base
    axes. The orientation error is the rotation vector from the TCP to the reference along the *reference's* axes,
    clipped there and then turned to base axes. (SERL takes the quaternion's vector part, half of that angle.)

    Args:
        pose, reference: `(7,)`, m and xyzw, base frame.
        velocity: `(6,)`, m/s and rad/s, base frame.
    """
    clip_m, clip_rad = np.array(gains.translational_clip_m), gains.rotational_clip_rad
    shift = np.clip(reference[:3] - pose[:3], -clip_m, clip_m)
    goal = Rotation.from_quat(reference[3:])
    turn = np.clip((goal.inv() * Rotation.from_quat(pose[3:])).inv().as_rotvec(), -clip_rad, clip_rad)
    force = gains.translational_stiffness * shift - gains.translational_damping * velocity[:3]
    torque = gains.rotational_stiffness * goal.apply(turn) - gains.rotational_damping * velocity[3:]
    return np.concatenate([force, torque])


def joint_torque(
    wrench: np.ndarray, jacobian: np.ndarray, joints: np.ndarray, velocity: np.ndarray, rest: np.ndarray,
    stiffness: float, damping: float,
) -> np.ndarray:  # fmt: skip
    """Joint torques `(7,)`, N·m: the wrench through the Jacobian, and a posture spring in its null space.

    `tau = J^T F + (I - J^T J^+T) (k (rest - q) - d qdot)`, as SERL's controller computes it (gravity and Coriolis
    forces come on top). The twin leaves the projector out and keeps `k` so weak that the difference does not matter.

    Args:
        wrench: `(6,)` from `impedance_wrench`.
        jacobian: `(6, 7)` of the TCP, base axes, linear rows first.
        joints, velocity, rest: `(7,)`, rad, rad/s, rad.
        stiffness, damping: of the posture spring, N·m/rad and N·m·s/rad.
    """
    projector = np.eye(7) - jacobian.T @ np.linalg.pinv(jacobian.T)
    return jacobian.T @ wrench + projector @ (stiffness * (rest - joints) - damping * velocity)
