"""`RobotEnv`: one gymnasium environment for every arm. Spaces, safety, time limit and human takeover are written here."""

from math import isfinite
from typing import Any

import gymnasium
import numpy as np

from robot_env.arm import Arm, ArmState
from robot_env.camera_watch import CameraWatch
from robot_env.drive import Drive
from robot_env.faults import Fault, FaultLatch, Violation
from robot_env.intervention import Intervention
from robot_env.observation import Observation, make_spaces, state_vector
from robot_env.pace import Pace
from robot_env.pose import displace, relative_pose
from robot_env.preflight import preflight
from robot_env.safety import SafetyLayer
from robot_env.starts import draw_start, parse_start
from robot_env.success import GeometricSuccess, Success
from robot_env.tasks import Task

STOPPING = (Violation, ConnectionError, TimeoutError)  # what an arm, a camera or a human's device may meet at work


class RobotEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A task on an arm.

    What is observed: `robot_env.observation`. An action `(6,)` in [-1, 1] moves the *measured* pose in the end-effector
    frame, by at most `task.action_scale` per axis (see `robot_env.pose.displace`); a seventh number <= -0.5 closes the
    gripper, >= 0.5 opens it. What would leave the box is clipped to it. The reward is
    `task.reward_scale · (1 at success, else 0) + task.reward_shift`. Success is terminal; the time limit and every fault
    are truncation.

    A picture that is known to be bad is never observed (`robot_env.camera_watch`). Where the task says `hold`, the arm is first
    held where it is, as by actions of zero, and the step or reset ends with what is seen once the cameras are well again.

    A command, a reading or a picture that must not pass stops the arm: the step is truncated with `info["fault"]`, and from
    then on `step` and `reset` raise `ArmFault` until `acknowledge(operator)`. A fault during `reset` raises it at once.

    `info` holds `succeed`, and after a step `raw_reward` (1 at success, else 0), `requested_action` (the policy's, clipped to
    [-1, 1]; as it came where it is not finite), `executed_action` (what was sent, in the same frame and units; zeros where
    nothing was sent) and, where a human acted, `intervene_action`, which was then requested of the arm in the policy's stead.
    Where there is a `truth`, `info["truth"]` is its verdict on each step, beside that of `success`; it decides nothing.
    Where the arm was held after that, `held_steps` counts the control periods. With a pace, `late_s` says by how much the
    command was late, 0 within the tolerance, and `step_s` how long after the one before it went out, unless it is the first.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (gymnasium's own declaration)

    def __init__(
        self,
        task: Task,
        arm: Arm,
        success: Success | None = None,
        intervention: Intervention | None = None,
        truth: Success | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Nothing is connected before the first reset. Raises `ValueError` where the task fails preflight.

        Args:
            pace: when commands go out; without one, as fast as the arm lets time pass.
        """
        preflight(task)
        self.task, self.arm = task, arm
        self.observation_space, self.action_space = make_spaces(task)
        self.safety = SafetyLayer(task)
        self._drive = Drive(arm, self.safety, pace)
        self._success, self._truth = success or GeometricSuccess(task), truth
        self._intervention = intervention
        self._watch = CameraWatch(task)
        self._latch = FaultLatch()
        self._connected = self._running = False
        self._episode = self._step = 0
        self._origin: list[float] = []
        self._obs: Observation = {}

    @property
    def pace(self) -> Pace | None:
        """When commands go out."""
        return self._drive.pace

    @property
    def fault(self) -> Fault | None:
        """The fault that holds the arm, if any."""
        return self._latch.open

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults so far, oldest first."""
        return tuple(self._latch.history)

    def acknowledge(self, operator: str) -> Fault:
        """An operator has looked at the arm: closes the open fault in their name. The next reset connects again."""
        fault = self._latch.acknowledge(operator)
        self._connected = False
        return fault

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Lift the arm and bring it to a start pose.

        Args:
            seed: of the start pose and of a twin's scene.
            options: `{"offset": (6,)}` fixes the start pose, an offset from the target.

        Raises:
            ArmFault: a fault is open, or the arm had to be stopped on the way.
            ConnectionError: the arm could not be reached; nothing has moved, and trying again is fine.
            ValueError: the options ask for something unknown, or for a start pose outside the box.
        """
        super().reset(seed=seed)
        self._latch.require_clear()
        start = parse_start(self.task, options, draw_start(self.task, self.np_random))
        self._running = False
        self._episode, self._step = self._episode + 1, 0
        if not self._connected:
            self.arm.connect()
            self._connected = True
        info: dict[str, Any] = {"succeed": False, "start_offset": start}
        try:
            self._travel(start, info)
        except STOPPING as error:
            self._stop(error)
            self._latch.require_clear()
        except BaseException as error:
            self._stop(error)
            raise
        for judge in (self._success, self._truth):
            if judge is not None:
                judge.begin()
        self._running = True
        self._drive.restart()
        return dict(self._obs), info

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control period.

        Raises:
            ArmFault: a fault is open.
            RuntimeError: the episode is over, or none has begun.
            ValueError: the action has the wrong shape.
        """
        self._latch.require_clear()
        if not self._running:
            raise RuntimeError("no episode is running; call reset() first")
        requested = self._as_action(action)
        info: dict[str, Any] = {
            "succeed": False,
            "raw_reward": 0.0,
            "requested_action": requested,
            "executed_action": np.zeros_like(requested),
        }
        if self._truth is not None:
            info["truth"] = False  # of a step that a fault cuts short
        self._step += 1
        try:
            succeed = self._act(requested, info)
        except STOPPING as error:
            info["fault"] = self._stop(error).reason
            last = {name: value.copy() for name, value in self._obs.items()}  # the newest that is to be believed
            return last, self._reward(False), False, True, info
        except BaseException as error:
            self._stop(error)
            raise
        info["succeed"], info["raw_reward"] = succeed, float(succeed)
        truncated = not succeed and self._step >= self.task.max_steps
        self._running = not (succeed or truncated)
        if not self._running:
            self.arm.rest()
        return dict(self._obs), self._reward(succeed), succeed, truncated, info

    def close(self) -> None:
        """Give the arm back."""
        self._running = False
        self.arm.close()

    def _travel(self, start: np.ndarray, info: dict[str, Any]) -> None:
        """The moves of a reset."""
        measured = self.safety.check_state(self.arm.read(), "precise")
        path = self.safety.plan_reset(measured, start.tolist())
        self.safety.check_path(path, measured)
        self.arm.reset(path, self.np_random)
        state = self._drive.begin()
        self._origin = self._drive.pose
        if not self.safety.within_one_step(self._origin, path[-1].tolist()):
            raise Violation(f"the reset ended at {self._origin}, more than one step from its start pose {path[-1]}")
        self._watch.begin()
        self._observe(state, info)

    def _act(self, requested: np.ndarray, info: dict[str, Any]) -> bool:
        """Ask the human, limit, send, read back. Fills `info` as far as it comes; returns whether the task is done."""
        human = None if self._intervention is None else self._intervention.action(self._obs)
        if human is not None:
            requested = info["intervene_action"] = self._as_action(human)
        wish, drive = requested.tolist(), self._drive
        if not all(map(isfinite, wish)):
            raise Violation(f"action {wish} is not finite")
        if self.task.gripper and abs(wish[6]) >= 0.5:
            drive.gripper = 1.0 if wish[6] > 0.0 else 0.0
        done = drive.send(displace(drive.pose, wish, self.safety.scale).tolist(), info)
        info["executed_action"] = np.array([*done, *wish[6:]], dtype=np.float32)
        state = self._observe(drive.measure(), info)
        if self._truth is not None:
            info["truth"] = bool(self._truth(state, self._obs))
        return bool(self._success(state, self._obs))

    def _observe(self, state: ArmState, info: dict[str, Any]) -> ArmState:
        """Make the observation of a reading, or of a later one: while cameras fail, the arm is held. Returns that reading."""
        held, drive = 0, self._drive
        while (pictures := self._watch.look(self.arm, drive.pose, held)) is None:
            drive.send(drive.pose, info)
            state, held = drive.measure(), held + 1
            info["held_steps"] = held
        offset = self.safety.offset(drive.pose)
        relative = offset if self.task.relative_to == "target" else relative_pose(drive.pose, self._origin)
        self._obs = {"state": state_vector(state, drive.pose, relative), **pictures}
        return state

    def _as_action(self, action: Any) -> np.ndarray:
        """A float32 copy `(A,)`, clipped to [-1, 1] where it is finite."""
        array = np.array(action, dtype=np.float64)
        if array.shape != self.action_space.shape:
            raise ValueError(f"action has shape {array.shape}; give {self.action_space.shape}, as action_space says")
        clipped = np.clip(array, -1.0, 1.0) if np.isfinite(array).all() else array
        return clipped.astype(np.float32)

    def _reward(self, succeed: bool) -> float:
        """The training reward; nowhere else is it scaled or shifted."""
        return self.task.reward_scale * float(succeed) + self.task.reward_shift

    def _stop(self, error: BaseException) -> Fault:
        """Stop the arm, end the episode, and latch the reason."""
        self._running = False
        reason = str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"
        fault = self._latch.latch(reason, self._episode, self._step)
        self.arm.stop(reason)
        return fault
