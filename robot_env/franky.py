"""`FrankyArm`: the Franka Research 3, through franky-control 2.0 (libfranka 0.21, interface version 10)."""

import time
from typing import Any

import franky
import numpy as np

from robot_env.arm import Gains
from robot_env.franka import FrankaArm
from robot_env.franka_driver import CONNECT_S, Load, Reading, Requests, within
from robot_env.joints import HOME_RAD

NULLSPACE_NM_RAD, NULLSPACE_NMS_RAD = 0.2, 0.9  # SERL's posture spring and damper, projected into the null space
# The ready pose, as with the Panda's library: were it where each motion begins, the elbow would wander off, reset by reset.
POSTURE_RAD = np.array(HOME_RAD)
END_S = 2.0  # for a motion that was stopped
RECOVER_S = 2.0  # until its states say that it has recovered


class FrankyDriver:
    """See `robot_env.franka_driver.Driver`."""

    def __init__(self, host: str, realtime: bool) -> None:
        self._host, self._realtime = host, realtime
        self._requests = Requests(host, franky.Exception, RuntimeError)
        self._robot: Any = None
        self._motion: Any = None
        self._goal: np.ndarray | None = None

    def open(self) -> None:
        config = franky.RealtimeConfig.Enforce if self._realtime else franky.RealtimeConfig.Ignore
        requests = self._requests = Requests(self._host, franky.Exception, RuntimeError)
        self._robot = within(
            CONNECT_S,
            f"the robot at {self._host}",
            lambda: requests.attempt(lambda: franky.Robot(self._host, realtime_config=config)),
        )

    def recover(self) -> None:
        self._requests.ask(
            self._robot.recover_from_errors
        )  # what it returns is of a state that may be older than the recovery
        give_up_s = time.monotonic() + RECOVER_S
        while error := self.read().error:
            if time.monotonic() > give_up_s:
                raise ConnectionError(
                    f"the robot at {self._host} does not recover from its error ({error}); look at it"
                )
            time.sleep(0.01)

    def configure(self, force_n: float, torque_nm: float, joints_nm: tuple[float, ...], load: Load | None) -> None:
        cartesian = [force_n] * 3 + [torque_nm] * 3
        self._requests.ask(lambda: self._robot.set_collision_behavior(list(joints_nm), cartesian))
        if load is not None:
            self._requests.ask(lambda: self._robot.set_load(load.mass_kg, list(load.com_m), list(load.inertia)))

    def start(self, gains: Gains) -> None:
        state = self._requests.attempt(lambda: self._robot.state)
        if error := _error_of(state):
            raise ConnectionError(f"the robot has stopped by itself: {error}")
        self._begin(gains, state.O_T_EE)

    def change_gains(self, gains: Gains) -> None:
        """The clips are a motion's own, so another motion takes over."""
        state = self._requests.attempt(lambda: self._robot.state)
        reference = self._motion.get_reference()
        self._begin(gains, state.O_T_EE if reference is None else reference.target)

    def refer(self, goal: np.ndarray, reading: Reading) -> None:
        if self._goal is goal:  # the library cuts the error itself, at 1 kHz
            return
        self._requests.attempt(
            lambda: self._motion.set_reference(franky.CartesianReference(franky.Affine(goal[:3], goal[3:])))
        )
        self._goal = goal

    def read(self) -> Reading:
        if self._motion is not None and self._requests.attempt(self._robot.poll_motion):  # true once it has ended
            raise ConnectionError(f"the robot at {self._host} has ended its motion by itself")
        state = self._requests.attempt(lambda: self._robot.state)
        jacobian = self._robot.model.zero_jacobian(franky.Frame.EndEffector, state)
        return Reading(
            pose=np.array(state.O_T_EE.matrix),
            velocity=np.array(jacobian) @ np.array(state.dq),
            wrench=-np.array(state.K_F_ext_hat_K),  # Franka counts what the robot does to the world
            joints=np.array(state.q),
            stamp_s=state.time.to_sec(),
            error=_error_of(state),
        )

    def halt(self) -> None:
        if self._motion is None:
            return
        self._motion = self._goal = None
        self._requests.ask(self._robot.stop)
        try:
            ended = self._robot.join_motion(END_S)
        except (franky.Exception, RuntimeError):  # that it was stopped, or what had stopped it before
            return
        if not ended:
            raise ConnectionError(f"the robot at {self._host} does not stop within {END_S:g} s; press its stop button")

    def close(self) -> None:
        self._robot = self._motion = self._goal = None

    def connect_gripper(self) -> Any:
        return self._requests.attempt(lambda: franky.Gripper(self._host))

    def read_gripper(self, gripper: Any) -> Any:
        return self._requests.attempt(lambda: gripper.state)

    def _begin(self, gains: Gains, pose: Any) -> None:
        posture = franky.PostureTask(POSTURE_RAD, NULLSPACE_NM_RAD, NULLSPACE_NMS_RAD)
        motion = franky.CartesianImpedanceTrackingMotion(
            gains.translational_stiffness,
            gains.rotational_stiffness,
            posture_task=posture,
            translational_error_clip=np.array(gains.translational_clip_m),
            rotational_error_clip=np.full(3, gains.rotational_clip_rad),
        )
        motion.set_gains(
            franky.CartesianImpedanceGains.isotropic(
                gains.translational_stiffness,
                gains.rotational_stiffness,
                gains.translational_damping,
                gains.rotational_damping,
            )
        )
        motion.set_reference(franky.CartesianReference(pose))
        self._requests.ask(lambda: self._robot.move(motion, asynchronous=True))
        self._motion, self._goal = motion, None


def _error_of(state: Any) -> str:
    """Why the robot has stopped, or an empty string."""
    if state.robot_mode in (franky.RobotMode.Idle, franky.RobotMode.Move):
        return ""
    flags = [name for name in dir(state.current_errors) if not name.startswith("_")]
    raised = [name for name in flags if getattr(state.current_errors, name) is True]
    return f"{state.robot_mode.name} {', '.join(raised)}".strip()


class FrankyArm(FrankaArm):
    """An FR3 with its hand; a robot, other than the served twin, wants a real-time kernel here."""

    driver = FrankyDriver
