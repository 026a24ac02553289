"""Tasks: one frozen dataclass each, one file each, found by the file's name."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from robot_env.arm import Mode


@dataclass(frozen=True)
class Scene:
    """What a simulated twin needs to build the task's surroundings; `module` names the file in `sim` that does so."""

    module: ClassVar[str]


@dataclass(frozen=True)
class Task:
    """A task for one arm: where it may go, how it moves, when it succeeds. Vectors of six are xyz then Euler xyz.

    The box is given as *offsets from the target*: metres along the base axes, and the Euler xyz angles of
    `R · R_target^-1` in radians, so a tool that points down (roll near ±pi) never meets the wrap of an angle.

    Attributes:
        name: the file's name.
        target: `(6,)` pose at success, base frame, m and rad.
        low, high: `(6,)` corners of the box, offsets from the target.
        reset: `(6,)` middle of the start poses, offset from the target.
        reset_range: `(6,)` half-width of the uniform start noise around `reset`.
        action_scale: largest move per step, (m, rad), for an action of 1.
        max_steps: time limit, control steps; ending there is truncation.
        hz: control steps per second.
        success_tolerance: (m, rad) largest distance to the target, along z and in angle, at which it has succeeded.
        discount: per control step.
        reward_scale, reward_shift: training reward = scale x (1 at success, else 0) + shift.
        failure_penalty: what an operator's word that the episode failed does: None cuts it, as truncation; a number ends it for
            good, and the step earns minus as much in place of 0.
        wrench_limit: per mode, (N, N·m) norms above which the arm stops.
        relative_to: what the observed pose is relative to. `reset` hides the target, as SERL does for images.
        gripper: whether a seventh action moves the gripper.
        cameras: names of the cameras that are part of the observation.
        camera_fault: what is done when one fails: `stop` the arm, or `hold` it still for up to two seconds first.
        scene: what the twin builds.
    """

    name: str
    target: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    reset: tuple[float, ...]
    reset_range: tuple[float, ...]
    scene: Scene
    action_scale: tuple[float, float] = (0.02, 0.1)
    max_steps: int = 60
    hz: float = 10.0
    success_tolerance: tuple[float, float] = (0.004, 0.2)
    discount: float = 0.98
    reward_scale: float = 1.0
    reward_shift: float = -1.0
    failure_penalty: float | None = None
    wrench_limit: Mapping[Mode, tuple[float, float]] = field(
        default_factory=lambda: {"compliant": (40.0, 10.0), "precise": (40.0, 10.0)}
    )
    relative_to: Literal["target", "reset"] = "target"
    gripper: bool = False
    cameras: tuple[str, ...] = ()
    camera_fault: Literal["hold", "stop"] = "stop"

    @property
    def action_dim(self) -> int:
        return 7 if self.gripper else 6

    @property
    def truncation_value(self) -> float:
        """What the training return of an episode that was cut short ends in: failing on for ever."""
        return self.reward_shift / (1.0 - self.discount)

    @property
    def reward(self) -> str:
        """What a step earns, raw, in words."""
        failure = "" if not self.failure_penalty else f", -{self.failure_penalty:g} at a failure that an operator calls"
        return f"1 at success{failure}, else 0"

    def outcome(self, end: Literal["success", "failure", "discard"] | None) -> tuple[bool, float]:
        """Whether an episode that ends so, or not yet (None), is over for good (terminal), and what the step earns, raw."""
        if end == "failure" and self.failure_penalty is not None:
            return True, -self.failure_penalty
        return end == "success", float(end == "success")


def task_names() -> list[str]:
    """Names of all tasks, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def find_task(name: str) -> Task:
    """The task of that name. Raises `ValueError` that lists the names there are."""
    if name not in task_names():
        raise ValueError(f"task {name!r} is unknown; choose one of {', '.join(task_names())}")
    return importlib.import_module(f"{__name__}.{name}").TASK


__all__ = ["Scene", "Task", "find_task", "task_names"]
