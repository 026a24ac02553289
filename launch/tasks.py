"""Every task there is: those of arms, and those only simulated, D4RL's and a small one.

What differs between the two kinds is decided here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from gymnasium import spaces

from agent.replay.journal_info import DatasetInfo
from launch.attendant import Attendant, Watch, unwatched
from robot_env import make, observation
from robot_env.faults import ArmFault
from robot_env.pace import Pace
from robot_env.preflight import preflight
from robot_env.starts import draw_start, evaluation_starts
from robot_env.tasks import Task, is_task_file
from robot_env.tasks import find_task as find_arm_task
from robot_env.tasks import task_names as arm_task_names
from sim import learning_env, passage
from sim.d4rl import D4RLTask
from sim.d4rl_tasks import d4rl_tasks
from sim.dynamics import read_dynamics

AnyTask = Task | D4RLTask
Resets = Literal["fixed", "drawn"]
FIRST_TRIAL_SEED = 10_000


class Environment(Protocol):
    """What an actor and an evaluation need of an environment; `RobotEnv` and `LearningEnv` are such."""

    task: Any
    fault: Any

    @property
    def pace(self) -> Pace | None: ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]: ...
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]: ...
    def acknowledge(self, operator: str) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class TrialStart:
    """One trial: `env.reset(seed=start.seed, options=start.options)`."""

    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


def task_names() -> list[str]:
    """Names of all tasks: the arms' first."""
    return [*arm_task_names(), *_simulated()]


def _simulated() -> dict[str, D4RLTask]:
    """Tasks without an arm: the small one, then D4RL's."""
    return {passage.TASK.name: passage.TASK, **d4rl_tasks()}


def find_task(task: str) -> AnyTask:
    """The task of that name, or of that file, `FILE.py`. Raises `ValueError` that says what there is instead."""
    if task in arm_task_names():
        return find_arm_task(task)
    twins = _simulated()
    if is_task_file(task):
        found = find_arm_task(task)
        if found.name in twins:
            raise ValueError(f"task file {task}: there is a task {found.name!r} already; give it another name")
        return found
    if task not in twins:
        raise ValueError(f"task {task!r} is unknown; choose one of {', '.join(task_names())}, or give a FILE.py")
    return twins[task]


def check_task(task: AnyTask, arm: str) -> None:
    """Raises `ValueError` where a task contradicts itself, or there is no such arm for it; loads no model."""
    if isinstance(task, Task):
        preflight(task)
        written = make.parse_arm(arm)
        if written.name == "twin" and written.address is not None:
            read_dynamics(Path(written.address), task)
    elif arm != "twin":
        raise ValueError(f"arm {arm!r}: task {task.name!r} is simulated only; leave --arm out")


def make_env(
    task: AnyTask, arm: str = "twin", render_mode: Literal["rgb_array"] | None = None, realtime: bool = False
) -> Environment:
    """The environment of a task. Raises `ValueError` for an arm that it does not have.

    Args:
        render_mode: whether a simulated task can be drawn.
        realtime: hold the task's control rate on the wall clock; otherwise as fast as it goes.
    """
    check_task(task, arm)
    if isinstance(task, Task):
        return make.make_env(task, arm, realtime=realtime)
    return learning_env.LearningEnv(task, render_mode, Pace(task.hz) if realtime else None)


def begin_episode(
    env: Environment, attendant: Attendant, seed: int, options: dict[str, Any] | None = None, watch: Watch = unwatched
) -> Mapping[str, np.ndarray]:
    """A reset, once whoever attends the arm has looked at it where it was stopped; and again, where it fails.

    Args:
        watch: called now and then while the arm waits for them.

    Raises:
        ArmFault: a fault waits for a human, and there is none.
        ConnectionError: the arm cannot be reached, and nobody mends that.
    """
    failure: Exception | None = None
    for attempt in count():
        if env.fault is not None or failure is not None:
            name = attendant(str(failure) if env.fault is None else env.fault.reason, attempt, watch)
            if name is None and failure is not None:
                raise failure
            if name is not None and env.fault is not None:
                env.acknowledge(name)
        try:
            return env.reset(seed=seed, options=options)[0]
        except (ArmFault, ConnectionError) as error:
            failure = error
    raise AssertionError("a count has no end")


def spaces_of(task: AnyTask) -> tuple[spaces.Dict, spaces.Box]:
    """Observation and action space; loads no model."""
    return observation.make_spaces(task) if isinstance(task, Task) else learning_env.make_spaces(task)


def cameras_of(task: AnyTask) -> dict[str, tuple[int, ...]]:
    """Shape `(H, W, 3)` of the pictures of each of a task's cameras, in order; none where it has none."""
    names = task.cameras if isinstance(task, Task) else ()
    return dict.fromkeys(names, observation.IMAGE_SHAPE)


def trial_starts(task: AnyTask, count: int, resets: Resets = "fixed", seed: int = 0) -> list[TrialStart]:
    """The first `count` of a task's trials.

    Args:
        resets: `fixed`, the same start poses and hidden scenes on every call; or `drawn`, others for each seed.
        seed: of drawn ones.
    """
    drawn = resets == "drawn"
    seeds = [_drawn_seed(seed, i) if drawn else FIRST_TRIAL_SEED + i for i in range(count)]
    if not isinstance(task, Task):
        return [TrialStart(each) for each in seeds]
    fixed = evaluation_starts(task, 0 if drawn else count, FIRST_TRIAL_SEED)
    offsets = [draw_start(task, np.random.default_rng(s)) for s in seeds] if drawn else [s.offset for s in fixed]
    return [TrialStart(s, {"offset": o, "alone": True}) for s, o in zip(seeds, offsets, strict=True)]


def _drawn_seed(seed: int, number: int) -> int:
    """Of one drawn trial; a key of its own keeps it away from the episodes that a run of the same seed learned from."""
    return int(np.random.SeedSequence(seed, spawn_key=(FIRST_TRIAL_SEED, number)).generate_state(1)[0])


def offset_of(task: AnyTask, obs: Mapping[str, np.ndarray]) -> tuple[float, float, float] | None:
    """How far an arm's tool is from the target, m along the base axes; None where the task has no such thing."""
    if not isinstance(task, Task):
        return None
    x, y, z = (float(value) for value in np.asarray(obs["state"])[4:7])
    return x, y, z


def normalized_score(task: AnyTask, raw_return: float, success: bool) -> float | None:
    """An episode's normalised score; None for an arm's task, which has no references."""
    return None if isinstance(task, Task) else task.normalized(raw_return, success)


def info_of(task: AnyTask, provenance: str) -> DatasetInfo:
    """What the numbers of a task's transitions mean."""
    return DatasetInfo(
        task=task.name,
        discount=task.discount,
        reward_scale=task.reward_scale,
        reward_shift=task.reward_shift,
        truncation_value=task.truncation_value,
        reward=task.reward,
        provenance=provenance,
    )
