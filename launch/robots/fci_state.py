"""The robot state that a Franka sends every millisecond, filled from the twin's arm."""

from typing import Any

import numpy as np

from launch.robots.fci_wire import ERRORS, Version, state_layout
from sim.torque_arm import Load, TorqueArm, flange_to_tcp

JOINT_THRESHOLD_NM, FORCE_THRESHOLD_N = 20.0, 20.0  # until a client sets its own; libfranka's examples set these


class RobotStateMessage:
    """One state, filled anew each time; settings and latched flags stay in it.

    Args:
        version: of the interface.
        hand: what is on the flange from the start; what it holds is the client's to tell, by SetLoad.
    """

    def __init__(self, version: Version, hand: Load) -> None:
        self._record = np.zeros((), state_layout(version))
        self._views: dict[str, Any] = {name: self._record[name] for name in self._record.dtype.names or ()}
        self._tcp_to_ee, self._ee_to_k = np.eye(4), np.eye(4)
        self._torque_limits = np.full((2, 7), JOINT_THRESHOLD_NM)  # where contact, and where collision begins
        self._force_limits = np.full((2, 6), FORCE_THRESHOLD_N)
        self.put(EE_T_K=np.eye(4).ravel(), NE_T_EE=np.eye(4).ravel(), O_ddP_O=(0.0, 0.0, -9.81))
        self.put(F_T_EE=flange_to_tcp().ravel(order="F"), F_T_NE=flange_to_tcp().ravel(order="F"))
        self.put_load("ee", hand.mass_kg, hand.com_m, hand.inertia.ravel())

    def put(self, **fields: Any) -> None:
        """Set fields by name."""
        for name, value in fields.items():
            self._views[name][...] = value

    def put_load(self, name: str, mass_kg: float, com_m: np.ndarray, inertia: np.ndarray) -> None:
        """`ee` or `load`: kg, centre of mass `(3,)` m on the flange, inertia `(9,)` kg·m² about it."""
        self.put(**{f"m_{name}": mass_kg, f"F_x_C{name}": com_m, f"I_{name}": inertia})

    def set_ee_to_k(self, matrix: np.ndarray) -> None:
        """Where the frame K, about which wrenches are told, lies in the end effector's, `(4, 4)`."""
        self._ee_to_k = matrix
        self.put(EE_T_K=matrix.ravel(order="F"))

    def set_ne_to_ee(self, matrix: np.ndarray) -> None:
        """Where the end effector lies in the hand's own frame, `(4, 4)`."""
        self._tcp_to_ee = matrix
        self.put(NE_T_EE=matrix.ravel(order="F"), F_T_EE=(flange_to_tcp() @ matrix).ravel(order="F"))

    def set_thresholds(self, torques_nm: np.ndarray, forces_n: np.ndarray) -> None:
        """`(14,)` and `(12,)`: the lower ones, at which contact is told, and then the upper ones, at which a collision is."""
        self._torque_limits, self._force_limits = torques_nm.reshape(2, 7).copy(), forces_n.reshape(2, 6).copy()

    def measure(self, arm: TorqueArm, commanded: np.ndarray) -> None:
        """What is measured now, and the torque `(7,)` that a client has commanded."""
        pose = self._pose(arm)
        column = pose.ravel(order="F")
        in_base, in_k = self._wrench(arm, pose)
        elbow = (arm.q[2], np.sign(arm.q[3]))
        self.put(message_id=arm.clock_ms, O_T_EE=column, O_T_EE_d=column, O_T_EE_c=column)
        self.put(q=arm.q, theta=arm.q, dq=arm.dq, dtheta=arm.dq, elbow=elbow, elbow_d=elbow, elbow_c=elbow)
        self.put(tau_J=arm.torque + arm.gravity, tau_J_d=commanded)
        # Franka counts what the robot does to the world.
        self.put(tau_ext_hat_filtered=-arm.external, O_F_ext_hat_K=in_base, K_F_ext_hat_K=in_k)
        for kind, value, limits in self._levels(arm, in_k):
            self._views[f"{kind}_contact"][:] = np.abs(value) > limits[0]

    def collision(self, arm: TorqueArm) -> str | None:
        """`cartesian` or `joint`, where an upper threshold is passed now; the flags that say where stay until recovery."""
        found = None
        for kind, value, limits in self._levels(arm, self._wrench(arm, self._pose(arm))[1]):
            passed = np.abs(value) > limits[1]
            if passed.any():
                self._views[f"{kind}_collision"][:] = passed
                found = found or kind
        return found

    def raise_error(self, error: str) -> None:
        """Latch an error, by its name."""
        self._views["errors"][ERRORS[error]] = self._views["reflex_reason"][ERRORS[error]] = True

    def to_bytes(self) -> bytes:
        return self._record.tobytes()

    def _pose(self, arm: TorqueArm) -> np.ndarray:
        return arm.tcp @ self._tcp_to_ee

    def _wrench(self, arm: TorqueArm, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(6,)` of the robot on the world about the frame K, in base axes and in K's own."""
        if not arm.wrench.any():
            return np.zeros(6), np.zeros(6)
        frame = pose @ self._ee_to_k
        force, turn = -arm.wrench[:3], frame[:3, :3].T
        torque = np.cross(arm.tcp[:3, 3] - frame[:3, 3], force) - arm.wrench[3:]
        return np.concatenate([force, torque]), np.concatenate([turn @ force, turn @ torque])

    def _levels(self, arm: TorqueArm, in_k: np.ndarray) -> tuple[tuple[str, np.ndarray, np.ndarray], ...]:
        """What is compared with thresholds: forces at the frame K, torques at the joints."""
        return ("cartesian", in_k, self._force_limits), ("joint", arm.external, self._torque_limits)
