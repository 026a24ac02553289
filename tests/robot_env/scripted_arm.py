"""A small kinematic arm that follows its references with a lag, and misbehaves when told to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from robot_env.arm import ArmCommand, ArmState, Frame
from robot_env.joints import HOME_RAD
from robot_env.pose import angle_between, pose_from_offset, pose_from_vector, slerp
from robot_env.tasks import Scene, Task

TOY = Task(
    name="toy",
    target=(0.5, 0.1, 0.2, np.pi, 0.0, 0.4),
    low=(-0.05, -0.06, -0.01, -0.1, -0.1, -0.6),
    high=(0.05, 0.06, 0.10, 0.1, 0.1, 0.6),
    reset=(0.0, 0.0, 0.07, 0.0, 0.0, 0.0),
    reset_range=(0.03, 0.03, 0.02, 0.0, 0.0, 0.4),
    scene=Scene(),
    max_steps=20,
)
"""Small enough that a few actions meet every wall of the box."""


GRADIENT = np.repeat(np.add.outer(np.arange(128), np.arange(128))[:, :, None], 3, axis=2).astype(np.uint8)


class Judge:
    """Success as a function of the measured state says; by default never. Keeps count of episodes and of the pictures seen."""

    def __init__(self, verdict: Callable[[ArmState], bool] = lambda state: False) -> None:
        self._verdict, self.begun, self.seen = verdict, 0, []

    def begin(self) -> None:
        self.begun += 1

    def __call__(self, state: ArmState, obs: Mapping[str, np.ndarray]) -> bool:
        self.seen.append(obs)
        return self._verdict(state)


class ScriptedCamera:
    """Sees a colour gradient, and in its top row where the arm is, to the last bit; or what `read` is replaced with."""

    def __init__(self, arm: "ScriptedArm") -> None:
        self._arm = arm

    def read(self) -> Frame:
        picture = GRADIENT.copy()
        picture[0, :56, 0] = np.frombuffer(self._arm.pose.tobytes(), np.uint8)
        return Frame(picture, self._arm.clock_s)


class ScriptedArm:
    """Kinematic: each command moves the tool `follow` of the way to the reference, at once.

    Args:
        task: for its target, above which the arm starts, and its rate.
        follow: 1 is perfect tracking, above 1 overshoots, 0 is stuck.
        noise_m: standard deviation of the position it ends a step at, drawn from the reset's generator.
    """

    def __init__(self, task: Task = TOY, follow: float = 0.9, noise_m: float = 0.0) -> None:
        self.task, self.follow, self.noise_m = task, follow, noise_m
        self.pose = pose_from_offset((0.0, 0.0, 0.3, 0.0, 0.0, 0.0), pose_from_vector(task.target))
        self.velocity, self.wrench, self.gripper, self.clock_s = np.zeros(6), np.zeros(6), 0.0, 0.0
        self.commands: list[ArmCommand] = []
        self.paths: list[np.ndarray] = []
        self.stops: list[str] = []
        self.connections = self.closed = self.rests = 0
        self.readings: list[Callable[[ArmState], ArmState] | Exception] = []
        self.sendings: list[Callable[[ArmCommand], ArmCommand] | BaseException] = []
        self._cameras = {name: ScriptedCamera(self) for name in task.cameras}
        self._rng = np.random.default_rng(0)

    def script_reads(self, *readings: Callable[[ArmState], ArmState] | Exception) -> None:
        """The next reads are changed by these, one each; an exception is raised instead."""
        self.readings += readings

    def script_sends(self, *sendings: Callable[[ArmCommand], ArmCommand] | BaseException) -> None:
        """The next commands are reported as sent with these changes; an exception is raised instead."""
        self.sendings += sendings

    def connect(self) -> None:
        self.connections += 1

    def read(self) -> ArmState:
        state = ArmState(
            tcp_pose=self.pose.copy(),
            tcp_velocity=self.velocity.copy(),
            wrench=self.wrench.copy(),
            joints=np.array(HOME_RAD),
            gripper=self.gripper,
            stamp_s=self.clock_s,
        )
        if not self.readings:
            return state
        change = self.readings.pop(0)
        if isinstance(change, Exception):
            raise change
        return change(state)

    def send(self, command: ArmCommand) -> ArmCommand:
        sent = command
        if self.sendings:
            change = self.sendings.pop(0)
            if isinstance(change, BaseException):
                raise change
            sent = change(command)
        self.commands.append(command)
        before = self.pose
        position = before[:3] + self.follow * (command.tcp_pose[:3] - before[:3])
        position = position + self.noise_m * self._rng.standard_normal(3)
        self.pose = np.array([*position, *slerp(before[3:].tolist(), command.tcp_pose[3:].tolist(), self.follow)])
        period_s = 1.0 / self.task.hz
        self.velocity[:3] = (self.pose[:3] - before[:3]) / period_s
        self.velocity[3] = angle_between(before[3:].tolist(), self.pose[3:].tolist()) / period_s
        self.gripper, self.clock_s = command.gripper, self.clock_s + period_s
        return sent

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        self.paths.append(path.copy())
        self._rng = np.random.default_rng(rng.integers(2**63))
        self.pose, self.velocity, self.wrench = path[-1].copy(), np.zeros(6), np.zeros(6)
        self.clock_s = 0.0

    def rest(self) -> None:
        self.rests += 1

    def stop(self, reason: str) -> None:
        self.stops.append(reason)

    def close(self) -> None:
        self.closed += 1

    @property
    def cameras(self) -> Mapping[str, ScriptedCamera]:
        return self._cameras


def reading(**fields: object) -> Callable[[ArmState], ArmState]:
    """A change of a reading for `ScriptedArm.script_reads`."""
    return lambda state: replace(state, **fields)


def at_offset(offset: Sequence[float], task: Task = TOY) -> np.ndarray:
    """The pose `(7,)` at an offset from the task's target."""
    return pose_from_offset(offset, pose_from_vector(task.target))
