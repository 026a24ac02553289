"""The way of a reset: poses one after the other, at a speed, and rest at the end."""

from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.franka_driver import Reading
from robot_env.pose import angle_between, slerp

RESET_M_S, RESET_RAD_S = 0.15, 0.4  # the precise gains lag by less than their clips then
REST_M_S, REST_RAD_S, REST_M, REST_RAD = (
    0.003,
    0.01,
    0.0015,
    0.006,
)  # slower and nearer than this is at rest, at the goal
REST_S = 3.0  # of the robot's clock, until it must be


class Route:
    """Poses `(7,)` one after the other, at a speed."""

    def __init__(self, poses: list[np.ndarray]) -> None:
        self._poses = poses
        legs = [
            max(
                float(np.linalg.norm(b[:3] - a[:3])) / RESET_M_S,
                angle_between(a[3:].tolist(), b[3:].tolist()) / RESET_RAD_S,
            )
            for a, b in pairwise(poses)
        ]
        self._ends = np.cumsum([0.0, *legs])
        self.duration_s = float(self._ends[-1])

    def at(self, elapsed_s: float) -> np.ndarray:
        leg = min(int(np.searchsorted(self._ends, elapsed_s, side="right")) - 1, len(self._poses) - 2)
        begin, end = self._ends[leg], self._ends[leg + 1]
        share = 1.0 if end <= begin else min((elapsed_s - begin) / (end - begin), 1.0)
        a, b = self._poses[leg], self._poses[leg + 1]
        return np.array([*(a[:3] + share * (b[:3] - a[:3])), *slerp(a[3:].tolist(), b[3:].tolist(), share)])


class Arrival:
    """Whether an arm has come to rest at a pose `(7,)`."""

    def __init__(self, goal: np.ndarray) -> None:
        self._goal = goal
        self._began_s: float | None = None

    def at_rest(self, reading: Reading) -> bool:
        """Raises `TimeoutError` where that takes too long since the first reading."""
        if self._began_s is None:
            self._began_s = reading.stamp_s
            return False
        pose, goal, speed = vector_of(reading.pose), self._goal, reading.velocity
        off_m = float(np.linalg.norm(pose[:3] - goal[:3]))
        off_rad = angle_between(pose[3:].tolist(), goal[3:].tolist())
        m_s, rad_s = float(np.linalg.norm(speed[:3])), float(np.linalg.norm(speed[3:]))
        if reading.stamp_s - self._began_s > REST_S:
            raise TimeoutError(
                f"the reset did not come to rest at its end within {REST_S:g} s: it is {off_m:.4f} m and {off_rad:.4f} rad"
                f" off, at {m_s:.4f} m/s and {rad_s:.4f} rad/s; look what is in the way"
            )
        return m_s < REST_M_S and rad_s < REST_RAD_S and off_m < REST_M and off_rad < REST_RAD


def vector_of(pose: np.ndarray) -> np.ndarray:
    """`(7,)`, m and xyzw."""
    return np.concatenate([pose[:3, 3], Rotation.from_matrix(pose[:3, :3]).as_quat()])
