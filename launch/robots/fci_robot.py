"""What a Franka does with requests and commands, in front of the twin's arm: modes, motions, reflexes, recovery."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from launch.robots.fci_state import RobotStateMessage
from launch.robots.fci_wire import (
    EXTERNAL,
    GUIDING,
    IDLE,
    INVALID,
    JOINT_POSITION,
    JOINT_VELOCITY,
    MOVE,
    MOVE_STATUS,
    NO_CONTROLLER,
    NO_GENERATOR,
    REFLEX,
    REJECTED,
    SUCCESS,
    Command,
    Request,
    Version,
    parse_move,
)
from sim import panda
from sim.model_library import build_library, urdf
from sim.torque_arm import STEP_S, VELOCITY_LIMIT_RAD_S, TorqueArm

# A controller's torque may differ from the last one by 1 N·m: 1000 N·m/s, Franka's limit. Half as much again leaves room for a
# client's own rounding and filters.
TORQUE_STEP_NM = 1.5
LOST_COMMANDS = 20  # in a row, then the robot stops: Franka's limit
LIMIT_MARGIN_RAD = 1e-3


@dataclass
class Motion:
    """A Move under way.

    Attributes:
        request: the Move, answered once more at its end.
        torque: whether the client's torques move the arm; otherwise its joint positions or velocities do.
        q, dq: `(7,)`, what the robot's own joint controller follows.
    """

    request: Request
    controller: int
    generator: int
    torque: bool
    q: np.ndarray
    dq: np.ndarray


class FciRobot:
    """One robot, for one client after the other. Requests are answered and states made here; sockets are the server's.

    Args:
        arm: what moves.
        version: of the interface: 5 is a Panda, 10 an FR3.
    """

    def __init__(self, arm: TorqueArm, version: Version) -> None:
        self.arm = arm
        self.version: Version = version
        self._status = MOVE_STATUS[version]
        self.mode, self.motion = IDLE, None
        self._torque, self._held = np.zeros(7), arm.q.copy()
        self._lost, self._success = 0, 0.0
        self._state = RobotStateMessage(version, arm.loads()[0])

    @property
    def moving(self) -> bool:
        """Whether a client's commands are awaited."""
        return self.motion is not None

    def guide(self, joints: np.ndarray) -> None:
        """A hand holds the guiding buttons of an arm at rest, and leads it to `joints (7,)`, rad; most requests fail."""
        self.mode, self._held = GUIDING, joints.copy()

    def begin(self) -> None:
        """A client has connected. What an earlier one set stays, as on the robot."""
        self._lost, self._success = 0, 0.0

    def leave(self) -> None:
        """The client is gone: the arm brakes where it is. A reflex stays until somebody recovers."""
        self._brake(IDLE if self.mode == MOVE else self.mode)

    def request(self, request: Request) -> bytes:
        """Answer one request; `connect` is the server's. Raises `BadMessage`."""
        return getattr(self, f"_on_{request.name}")(request)

    def command(self, command: Command | None) -> bytes:
        """Take what a client answered to the last state, or that it answered nothing; returns what to send back over TCP."""
        motion = self.motion
        if motion is None:
            return b""
        self._success += 0.01 * ((command is not None) - self._success)
        self._lost = self._lost + 1 if command is None else 0
        if command is None:
            return self._reflex("communication_constraints_violation") if self._lost >= LOST_COMMANDS else b""
        if command.motion_finished or (motion.torque and command.torque_finished):
            self._brake(IDLE)
            if not motion.torque:
                self._held = motion.q
            return motion.request.reply(self._status["success"])
        return self._take_torque(command) if motion.torque else self._take_joints(motion, command)

    def advance(self) -> bytes:
        """One millisecond passes; returns what to send over TCP, which is something after a reflex."""
        arm, motion = self.arm, self.motion
        if motion is not None and motion.torque:
            torque = self._torque
        elif motion is not None:
            torque = arm.follow(motion.q, motion.dq)
        else:
            torque = arm.follow(self._held, np.zeros(7))
        arm.step(torque)
        return self._watch() if motion is not None else b""

    def state(self) -> bytes:
        """The robot state now."""
        motion, state = self.motion, self._state
        state.measure(self.arm, self._torque)
        joints = motion if motion is not None and not motion.torque else None
        state.put(q_d=self.arm.q if joints is None else joints.q, dq_d=0.0 if joints is None else joints.dq)
        state.put(
            generator=NO_GENERATOR if motion is None else motion.generator + 1,
            controller=NO_CONTROLLER if motion is None else motion.controller,
            robot_mode=self.mode,
            success_rate=self._success if motion is not None else 0.0,
        )
        return state.to_bytes()

    @property
    def _busy(self) -> bool:
        """Whether a motion is under way, or a hand guides the arm."""
        return self.motion is not None or self.mode == GUIDING

    def _watch(self) -> bytes:
        """Raises a reflex where the last millisecond asks for one."""
        arm = self.arm
        if not (np.abs(arm.dq) <= VELOCITY_LIMIT_RAD_S).all():
            return self._reflex("joint_velocity_violation")
        above, below = arm.q > panda.UPPER_RAD - LIMIT_MARGIN_RAD, arm.q < panda.LOWER_RAD + LIMIT_MARGIN_RAD
        if ((above & (arm.dq > 0.0)) | (below & (arm.dq < 0.0))).any():
            return self._reflex("joint_position_limits_violation")
        kind = self._state.collision(arm)
        return self._reflex(f"{kind}_reflex") if kind else b""

    def _take_torque(self, command: Command) -> bytes:
        torque = np.array(command.torque)
        if not (np.abs(torque) <= panda.TORQUE_LIMIT_NM).all():  # nor is NaN
            return self._reflex("tau_j_range_violation")
        if (np.abs(torque - self._torque) > TORQUE_STEP_NM).any():
            return self._reflex("controller_torque_discontinuity")
        self._torque = torque
        return b""

    def _take_joints(self, motion: Motion, command: Command) -> bytes:
        if motion.generator == JOINT_POSITION:
            q = np.array(command.q)
            dq = (q - motion.q) / STEP_S
        else:
            dq = np.array(command.dq)
            q = motion.q + dq * STEP_S
        if not (np.abs(dq) <= VELOCITY_LIMIT_RAD_S).all():
            return self._reflex("joint_motion_generator_velocity_limits_violation")
        motion.q, motion.dq = q, dq
        return b""

    def _brake(self, mode: int) -> None:
        self.mode, self.motion, self._held, self._torque, self._lost = mode, None, self.arm.q.copy(), np.zeros(7), 0

    def _reflex(self, error: str) -> bytes:
        assert self.motion is not None
        request = self.motion.request
        self._brake(REFLEX)
        self._state.raise_error(error)
        return request.reply(self._status["reflex"])

    def _on_move(self, request: Request) -> bytes:
        controller, generator = parse_move(request)
        if self.mode != IDLE:
            return request.reply(self._status["not_possible"])
        torque = controller == EXTERNAL
        no_generator = 4 if self.version == 10 else None
        if generator not in (JOINT_POSITION, JOINT_VELOCITY, no_generator) or (
            generator == no_generator and not torque
        ):
            return request.reply(self._status["invalid"])  # Cartesian motions are not simulated
        self.motion = Motion(request, controller, generator, torque, self.arm.q.copy(), np.zeros(7))
        self.mode, self._lost, self._success, self._torque = MOVE, 0, 1.0, np.zeros(7)
        self._state.put(reflex_reason=False)
        return request.reply(self._status["started"])

    def _on_stop_move(self, request: Request) -> bytes:
        motion = self.motion
        if motion is None:
            return request.reply(SUCCESS)
        self._brake(IDLE)
        return request.reply(SUCCESS) + motion.request.reply(self._status["preempted"])

    def _on_recover(self, request: Request) -> bytes:
        if self._busy:
            return request.reply(REJECTED)
        self.mode = IDLE
        self.arm.forget_impact()  # a robot takes seconds to recover, by which time it has faded
        self._state.put(errors=False, joint_collision=0.0, cartesian_collision=0.0)
        return request.reply(SUCCESS)

    def _on_set_collision_behavior(self, request: Request) -> bytes:
        """Thresholds while accelerating, then nominal ones, lower and upper; the twin has the nominal ones only."""
        values, state = request.numbers(52), self._state
        return self._set(request, lambda: state.set_thresholds(values[14:28], values[40:]), bool((values >= 0.0).all()))

    def _on_set_load(self, request: Request) -> bytes:
        values, state = request.numbers(13), self._state
        return self._set(request, lambda: state.put_load("load", values[0], values[1:4], values[4:]), values[0] >= 0.0)

    def _on_set_ee_to_k(self, request: Request) -> bytes:
        return self._set_frame(request, self._state.set_ee_to_k)

    def _on_set_ne_to_ee(self, request: Request) -> bytes:
        return self._set_frame(request, self._state.set_ne_to_ee)

    def _set_frame(self, request: Request, change: Callable[[np.ndarray], None]) -> bytes:
        matrix = request.numbers(16).reshape(4, 4, order="F").copy()
        turn = matrix[:3, :3]
        good = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.array_equal(matrix[3], [0, 0, 0, 1])
        return self._set(request, lambda: change(matrix), good)

    def _set(self, request: Request, change: Callable[[], None], good: bool) -> bytes:
        """Settings change at rest only, as on the robot, and not in a hand."""
        if self._busy:
            return request.reply(REJECTED)
        if not good:
            return request.reply(INVALID)
        change()
        return request.reply(SUCCESS)

    def _on_set_filters(self, request: Request) -> bytes:
        return self._accept(request)

    def _on_set_joint_impedance(self, request: Request) -> bytes:
        return self._accept(request)

    def _on_set_cartesian_impedance(self, request: Request) -> bytes:
        return self._accept(request)

    def _on_set_guiding_mode(self, request: Request) -> bytes:
        return self._accept(request)

    def _accept(self, request: Request) -> bytes:
        """Settings of the robot's own controllers and of guiding by hand, which change nothing in the twin."""
        return request.reply(REJECTED if self._busy else SUCCESS)

    def _on_get_cartesian_limit(self, request: Request) -> bytes:
        return request.reply(SUCCESS, bytes(8 * 19 + 1))  # no such limit is active

    def _on_load_model_library(self, request: Request) -> bytes:
        if request.payload != b"\0\0":
            return request.reply(REJECTED)  # another processor or system than x64 Linux
        return request.reply(SUCCESS, build_library())

    def _on_get_robot_model(self, request: Request) -> bytes:
        return request.reply(SUCCESS, urdf().encode())
