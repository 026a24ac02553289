"""`PandaArm`: the original Franka Panda, through panda-python 1.1.1 (libfranka 0.9.2, interface version 5)."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from robot_env.arm import Gains
from robot_env.franka import CONNECT_S, FrankaArm, Load, Reading, within
from robot_env.tasks import Task

try:
    import panda_py
    from panda_py import controllers, libfranka
except ImportError as _error:
    raise ValueError("arm 'panda': panda-python is not installed; pip install 'segue[panda]'") from _error

NULLSPACE_NM_RAD = 0.2  # SERL's posture spring, projected into the null space
SETTLE_TICKS_S = 0.004  # the controller has taken a new stiffness over after its next tick, 1 ms


class PandaArm(FrankaArm):
    """A Panda with its hand; see `FrankaArm`.

    Args:
        host: the robot's address.
        load, reflex, clock: see `FrankaArm`.
    """

    def __init__(
        self,
        task: Task,
        host: str = "172.16.0.2",
        load: Load | None = None,
        reflex: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(task, PandaDriver(host), load, reflex, clock)


class PandaDriver:
    """See `robot_env.franka.Driver`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._panda: Any = None
        self._controller: Any = None

    def open(self) -> None:
        self._panda = within(CONNECT_S, f"the robot at {self._host}", lambda: self._try(lambda: panda_py.Panda(self._host)))

    def recover(self) -> None:
        self._try(self._panda.get_robot().automatic_error_recovery)
        self._forget_error()

    def configure(self, force_n: float, torque_nm: float, joints_nm: tuple[float, ...], load: Load | None) -> None:
        robot, cartesian = self._panda.get_robot(), [force_n] * 3 + [torque_nm] * 3
        self._try(lambda: robot.set_collision_behavior(list(joints_nm), list(joints_nm), cartesian, cartesian))
        if load is not None:
            self._try(lambda: robot.set_load(load.mass_kg, list(load.com_m), list(load.inertia)))

    def start(self, gains: Gains) -> None:
        error = self.read().error
        if error:  # the library would recover from it by itself
            raise ConnectionError(f"the robot has stopped by itself: {error}")
        stiffness, damping = _impedance(gains)
        controller = controllers.CartesianImpedance(damping, 1.0, NULLSPACE_NM_RAD)
        controller.set_impedance(stiffness)
        self._try(lambda: self._panda.start_controller(controller))
        self._controller = controller

    def change_gains(self, gains: Gains, pose: np.ndarray) -> None:
        """Two steps: the library works the damping out from the stiffness that holds while the next is set."""
        stiffness, damping = _impedance(gains)
        self._controller.set_impedance(damping)
        began = self._controller.get_time()
        give_up_s = time.monotonic() + 1.0
        while self._controller.get_time() < began + SETTLE_TICKS_S:
            if time.monotonic() > give_up_s:
                raise ConnectionError("the robot's controller does not go on; look at its network")
            time.sleep(0.001)
        self._controller.set_impedance(stiffness)

    def refer(self, position: np.ndarray, quaternion: np.ndarray) -> None:
        self._try(self._panda.raise_error)
        if self._controller is None:
            raise ConnectionError("no controller runs on the robot")
        self._controller.set_control(position, quaternion)

    def read(self) -> Reading:
        panda = self._panda
        if self._controller is not None:
            self._try(panda.raise_error)  # the last state would stand still
        state = self._try(panda.get_state)
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
        try:
            self._try(self._panda.stop_controller)
        finally:
            self._forget_error()

    def close(self) -> None:
        panda, self._panda, self._controller = self._panda, None, None
        try:
            panda.get_robot().read_once()
        except RuntimeError:
            # The library's destructor reads from the robot once more, and where that fails it ends the process. So it is kept.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(panda))

    def _forget_error(self) -> None:
        """The library keeps the last controller's error; it has been told."""
        try:
            self._panda.raise_error()
        except RuntimeError:
            pass

    def _try(self, call: Callable[[], Any]) -> Any:
        """libfranka's exceptions come as `RuntimeError`."""
        try:
            return call()
        except RuntimeError as error:
            raise ConnectionError(f"the robot at {self._host}: {error}") from error


def _impedance(gains: Gains) -> tuple[np.ndarray, np.ndarray]:
    """Two stiffnesses `(6, 6)`: that which is meant, and that whose critical damping is the damping that is meant.

    The library's orientation error is the quaternion's vector part, half of the angle.
    """
    stiffness = [gains.translational_stiffness] * 3 + [2.0 * gains.rotational_stiffness] * 3
    damping = [gains.translational_damping] * 3 + [gains.rotational_damping] * 3
    return np.diag(stiffness), np.diag((np.array(damping) / 2.0) ** 2)
