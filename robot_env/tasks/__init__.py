"""Tasks: one frozen dataclass each, one file each, found by the file's name; a lab's own file by its path."""

import importlib
import os
import pkgutil
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
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


def is_task_file(task: str) -> bool:
    """Whether a task is given by its file, `FILE.py`, and not by its name."""
    return task.endswith(".py")


def task_reference(task: str) -> str:
    """How a run remembers a task: a file by its absolute path, for whoever takes the run up stands elsewhere."""
    return os.path.abspath(task) if is_task_file(task) else task


def name_of(task: str) -> str:
    """The name of a task that is given by its name or its file; reads nothing."""
    return Path(task).stem if is_task_file(task) else task


def find_task(task: str) -> Task:
    """The task of that name, or of that file, which is read once. Raises `ValueError` that says what there is instead."""
    if is_task_file(task):
        return _read(task_reference(task))
    if task not in task_names():
        raise ValueError(f"task {task!r} is unknown; choose one of {', '.join(task_names())}, or give a FILE.py")
    return importlib.import_module(f"{__name__}.{task}").TASK


@cache
def _read(path: str) -> Task:
    """The `TASK` of a file."""
    where, name = f"task file {path}", name_of(path)
    if not os.path.isfile(path):
        raise ValueError(f"{where}: there is no such file; correct the path, or put the file there on this machine too")
    if name in task_names():
        raise ValueError(f"{where}: there is a task {name!r} already; give the file and its task another name")
    try:
        found = runpy.run_path(path).get("TASK")
    except (Exception, SystemExit) as error:  # whatever a lab's own file does when it is read
        words = " ".join(str(error).split())
        raise ValueError(f"{where}: reading it failed ({type(error).__name__}: {words}); correct it") from error
    if not isinstance(found, Task):
        raise ValueError(f"{where}: it defines no TASK that is a robot_env.tasks.Task; see docs/franka.md for one")
    if found.name != name:
        raise ValueError(f"{where}: its task is named {found.name!r}; name it as its file, {name!r}")
    return found


__all__ = ["Scene", "Task", "find_task", "is_task_file", "name_of", "task_names", "task_reference"]
