"""Pose maths: one quaternion order (x y z w), one Euler convention, offsets from a target, end-effector moves.

Euler angles are everywhere "xyz about fixed axes": `R(e) = Rz(e[2]) · Ry(e[1]) · Rx(e[0])`, the pitch in ±pi/2. A
*pose* is seven numbers, m and a unit quaternion; an *offset* is six, metres along the base axes and the Euler angles
of `R · R_target^-1`. These run several times per control step on a handful of numbers, where plain floats are five
times faster than arrays; so vectors come as any sequence of floats and the small ones return as tuples.
"""

from collections.abc import Sequence
from math import atan2, cos, hypot, sin

import numpy as np

Floats = Sequence[float]
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


def quat_multiply(a: Floats, b: Floats) -> Quaternion:
    """The rotation `b` followed by `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def quat_inverse(q: Floats) -> Quaternion:
    """The rotation back; `q` is a unit quaternion."""
    return (-q[0], -q[1], -q[2], q[3])


def normalize(q: Floats) -> Quaternion:
    """`q` at length one. Raises `ValueError` where it has no direction."""
    length = hypot(*q)
    if not 0.0 < length < float("inf"):
        raise ValueError(f"quaternion {tuple(q)} cannot be normalized; pass four finite numbers that are not all zero")
    return (q[0] / length, q[1] / length, q[2] / length, q[3] / length)


def rotate(q: Floats, v: Floats) -> Vector:
    """`R(q) · v`."""
    x, y, z, w = q
    vx, vy, vz = v
    tx, ty, tz = 2.0 * (y * vz - z * vy), 2.0 * (z * vx - x * vz), 2.0 * (x * vy - y * vx)
    return (
        vx + w * tx + y * tz - z * ty,
        vy + w * ty + z * tx - x * tz,
        vz + w * tz + x * ty - y * tx,
    )


def quat_from_euler(e: Floats) -> Quaternion:
    """Euler xyz about fixed axes, rad, to a unit quaternion."""
    cx, cy, cz = cos(0.5 * e[0]), cos(0.5 * e[1]), cos(0.5 * e[2])
    sx, sy, sz = sin(0.5 * e[0]), sin(0.5 * e[1]), sin(0.5 * e[2])
    return (
        sx * cy * cz - cx * sy * sz,
        cx * sy * cz + sx * cy * sz,
        cx * cy * sz - sx * sy * cz,
        cx * cy * cz + sx * sy * sz,
    )


def euler_from_quat(q: Floats) -> Vector:
    """Unit quaternion to Euler xyz about fixed axes, rad: roll and yaw in ±pi, pitch in ±pi/2."""
    x, y, z, w = q
    r00, r10 = 1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)
    return (
        atan2(2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
        atan2(2.0 * (w * y - x * z), hypot(r00, r10)),
        atan2(r10, r00),
    )


def angle_between(a: Floats, b: Floats) -> float:
    """Angle in 0..pi, rad, of the rotation from one unit quaternion to the other; `q` and `-q` are the same."""
    x, y, z, w = quat_multiply(a, quat_inverse(b))
    return 2.0 * atan2(hypot(x, y, z), abs(w))


def slerp(a: Floats, b: Floats, fraction: float) -> Quaternion:
    """The unit quaternion `fraction` of the short way from `a` to `b`, at constant angular speed."""
    if sum(p * q for p, q in zip(a, b, strict=True)) < 0.0:
        b = [-value for value in b]  # q and -q are one rotation: take the one on a's side
    x, y, z, w = quat_multiply(b, quat_inverse(a))
    half_sine = hypot(x, y, z)
    if half_sine < 1e-12:
        return normalize(a)
    half = fraction * atan2(half_sine, w)
    scale = sin(half) / half_sine
    return normalize(quat_multiply((x * scale, y * scale, z * scale, cos(half)), a))


def pose_from_vector(vector: Floats) -> np.ndarray:
    """`(6,)` position and absolute Euler angles, as in `Task.target`, to a pose `(7,)`."""
    return np.array([*vector[:3], *quat_from_euler(vector[3:6])], dtype=np.float64)


def offset_from_pose(pose: Floats, target: Floats) -> tuple[float, ...]:
    """Offset `(6,)` of a pose `(7,)` from a target pose `(7,)`."""
    turn = euler_from_quat(quat_multiply(pose[3:7], quat_inverse(target[3:7])))
    return (pose[0] - target[0], pose[1] - target[1], pose[2] - target[2], *turn)


def pose_from_offset(offset: Floats, target: Floats) -> np.ndarray:
    """The pose `(7,)` at an offset `(6,)` from a target pose `(7,)`. Inverse of `offset_from_pose`."""
    turn = quat_multiply(quat_from_euler(offset[3:6]), target[3:7])
    return np.array([target[0] + offset[0], target[1] + offset[1], target[2] + offset[2], *normalize(turn)])


def relative_pose(pose: Floats, origin: Floats) -> tuple[float, ...]:
    """`T_origin^-1 · T` of two poses `(7,)`: metres along the origin's own axes, Euler angles of `R_origin^-1 · R`."""
    back = quat_inverse(origin[3:7])
    moved = rotate(back, (pose[0] - origin[0], pose[1] - origin[1], pose[2] - origin[2]))
    return (*moved, *euler_from_quat(quat_multiply(back, pose[3:7])))


def displace(pose: Floats, action: Floats, scale: Floats) -> np.ndarray:
    """The pose `(7,)` that an action in the end-effector frame asks for.

    `p' = p + R · action[:3] · scale_m` and `R' = R_xyz(R · action[3:6] · scale_rad) · R`.

    Args:
        pose: `(7,)`, measured.
        action: `(6,)` or more, of which the first six count; 1 is one full step.
        scale: (m, rad) per unit of action.
    """
    q = pose[3:7]
    move = rotate(q, [value * scale[0] for value in action[:3]])
    turn = quat_from_euler(rotate(q, [value * scale[1] for value in action[3:6]]))
    return np.array([pose[0] + move[0], pose[1] + move[1], pose[2] + move[2], *normalize(quat_multiply(turn, q))])


def displacement(pose: Floats, commanded: Floats, scale: Floats) -> tuple[float, ...]:
    """The action `(6,)` that a commanded pose amounts to. Inverse of `displace` for turns below pi/2."""
    back = quat_inverse(pose[3:7])
    move = rotate(back, [commanded[i] - pose[i] for i in range(3)])
    turn = rotate(back, euler_from_quat(quat_multiply(commanded[3:7], back)))
    return (*(value / scale[0] for value in move), *(value / scale[1] for value in turn))
