"""`PandaArm`: the original Franka Panda, through panda-python 1.1.1 (libfranka 0.9.2, interface version 5)."""

import contextlib
import ctypes
from math import sin, sqrt
from typing import Any

import numpy as np
import panda_py
from panda_py import controllers, libfranka
from scipy.spatial.transform import Rotation

from robot_env.arm import GAINS, Gains
from robot_env.franka import FrankaArm
from robot_env.franka_driver import CONNECT_S, Load, Reading, Requests, within

NULLSPACE_NM_RAD = 0.2  # SERL's posture spring, projected into the null space; its posture is the ready pose
# The library damps by 2 sqrt(stiffness): critical for the translations, as SERL has it, but for 150 N·m/rad three times SERL's
# 7 N·m·s/rad, and the tool would turn by 0.08 rad/s at most. So the stiffness is lower and the reference lies further on: the
# torque at each error is what the gains say, with a damping of 13. A reference that is not renewed turns the tool this far.
FULL_TORQUE_RAD = 0.15


class PandaDriver:
    """See `robot_env.franka_driver.Driver`."""

    def __init__(self, host: str, realtime: bool) -> None:
        self._host = host  # the library warns where there is no real-time kernel, and goes on
        self._requests = Requests(host, RuntimeError)  # libfranka's exceptions come as that
        self._panda: Any = None
        self._controller: Any = None
        self._gains = GAINS["precise"]

    def open(self) -> None:
        requests = self._requests = Requests(self._host, RuntimeError)
        self._panda = within(
            CONNECT_S, f"the robot at {self._host}", lambda: requests.attempt(lambda: panda_py.Panda(self._host))
        )

    def recover(self) -> None:
        self._requests.ask(self._panda.get_robot().automatic_error_recovery)

    def configure(self, force_n: float, torque_nm: float, joints_nm: tuple[float, ...], load: Load | None) -> None:
        robot, cartesian = self._panda.get_robot(), [force_n] * 3 + [torque_nm] * 3
        self._requests.ask(lambda: robot.set_collision_behavior(list(joints_nm), list(joints_nm), cartesian, cartesian))
        if load is not None:
            self._requests.ask(lambda: robot.set_load(load.mass_kg, list(load.com_m), list(load.inertia)))

    def start(self, gains: Gains) -> None:
        error = self.read().error
        if error:  # the library would recover from it by itself
            raise ConnectionError(f"the robot has stopped by itself: {error}")
        with contextlib.suppress(RuntimeError):
            self._panda.raise_error()  # the library keeps the last controller's until somebody has met it
        controller = controllers.CartesianImpedance(_stiffness(gains), 1.0, NULLSPACE_NM_RAD)
        self._requests.ask(lambda: self._panda.start_controller(controller))
        self._controller, self._gains = controller, gains

    def change_gains(self, gains: Gains) -> None:
        self._gains = gains
        self._controller.set_impedance(_stiffness(gains))

    def refer(self, goal: np.ndarray, reading: Reading) -> None:
        self._controller.set_control(*cut(goal, reading.pose, self._gains))

    def read(self) -> Reading:
        panda = self._panda
        if self._controller is not None:
            self._requests.attempt(panda.raise_error)  # the last state would stand still
        state = self._requests.attempt(panda.get_state)
        jacobian = np.array(panda.get_model().zero_jacobian(libfranka.Frame.kEndEffector, state)).reshape(7, 6).T
        joints, speeds = np.array(state.q), np.array(state.dq)
        errors = str(state.current_errors)
        stopped = state.robot_mode not in (libfranka.RobotMode.kIdle, libfranka.RobotMode.kMove)
        return Reading(
            pose=np.array(state.O_T_EE).reshape(4, 4).T,
            velocity=jacobian @ speeds,
            wrench=-np.array(state.K_F_ext_hat_K),  # Franka counts what the robot does to the world
            joints=joints,
            stamp_s=state.time.to_sec(),
            error=f"{state.robot_mode.name} {errors}" if stopped or errors != "[]" else "",
        )

    def halt(self) -> None:
        if self._controller is None:
            return
        self._controller = None
        self._requests.ask(self._panda.stop_controller)

    def close(self) -> None:
        panda, self._panda, self._controller = self._panda, None, None
        try:
            self._requests.attempt(lambda: panda.get_robot().read_once())
        except ConnectionError:
            # The library's destructor reads from the robot once more, and where that fails it ends the process. So it is kept.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(panda))

    def connect_gripper(self) -> Any:
        return self._requests.attempt(lambda: libfranka.Gripper(self._host))

    def read_gripper(self, gripper: Any) -> Any:
        return self._requests.attempt(lambda: gripper.read_once())


def _stiffness(gains: Gains) -> np.ndarray:
    """`(6, 6)`, N/m and N·m per unit of the error's quaternion."""
    rotational = gains.rotational_stiffness * gains.rotational_clip_rad / sin(0.5 * FULL_TORQUE_RAD)
    return np.diag([gains.translational_stiffness] * 3 + [rotational] * 3)


def cut(goal: np.ndarray, pose: np.ndarray, gains: Gains) -> tuple[np.ndarray, np.ndarray]:
    """The reference, m and xyzw, by which the library pulls from `pose (4, 4)` to `goal (7,)` as the gains say.

    The position's error is cut along the base axes, the rotation vector's along the tool's.
    """
    clip_m, clip_rad = np.array(gains.translational_clip_m), gains.rotational_clip_rad
    position = pose[:3, 3] + np.clip(goal[:3] - pose[:3, 3], -clip_m, clip_m)
    now = Rotation.from_matrix(pose[:3, :3])
    turn = np.clip((now.inv() * Rotation.from_quat(goal[3:])).as_rotvec(), -clip_rad, clip_rad)
    vector = turn / clip_rad * sin(0.5 * FULL_TORQUE_RAD)
    return position, (now * Rotation.from_quat([*vector, sqrt(1.0 - vector @ vector)])).as_quat()


class PandaArm(FrankaArm):
    """A Panda with its hand."""

    driver = PandaDriver
