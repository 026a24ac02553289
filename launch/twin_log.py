"""`segue twin log`: a small motion that shows an arm's gains, friction and latency, streamed and kept as a data set."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.policy import PolicyParams
from agent.replay.journal import Journal
from launch.actor import Actor
from launch.attendant import attendant_of
from launch.build import journal_info
from launch.demonstrate import NOTHING
from launch.journal_tools import JOURNAL
from launch.recipes import check_seed
from launch.recording import Recording
from launch.runs import prepare
from launch.tasks import check_task
from launch.twin_data import in_contact, pose_of
from robot_env import make
from robot_env.faults import ArmFault
from robot_env.make import parse_arm
from robot_env.pose import displacement, pose_from_offset, pose_from_vector
from robot_env.tasks import Task

# To either side, m and rad: beyond the clips of the gains (3 mm and more, 20 mrad), so that springs are seen at work and at
# their limit, and no further than a hand's breadth in free space.
REACH = np.array([0.015, 0.015, 0.015, 0.04, 0.04, 0.1])
WAVES_HZ = (0.3, 0.8, 1.7)
HOLD = (2, 6)  # control periods that a step stays, from and below: so long that some come to rest, where friction shows


@dataclass(frozen=True)
class Logging:
    """What is logged.

    Attributes:
        task: Whose box, limits and start pose hold.
        arm: Which arm: `twin`, or NAME:ADDRESS such as serl:http://127.0.0.1:5000; `,simulated` after it for a twin there.
        episodes: Each begins with a reset; a fit puts every fifth aside.
        steps: Control steps of each: 120 are 12 s at 10 Hz.
        seed: Of the motion.
    """

    task: str = "peg_insertion"
    arm: str = "twin"
    episodes: int = 5
    steps: int = 120
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("episodes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: give at least 1")


def excitation(task: Task, rng: np.random.Generator, steps: int) -> np.ndarray:
    """Offsets `(steps, 6)` from the target to go to, one a control step: sines, then steps, in the box and above the target.

    Never lower than half the height of the start poses. Raises `ValueError` where these are not above the target.
    """
    low, high, reset = (np.array(each) for each in (task.low, task.high, task.reset))
    if reset[2] <= 0.0:
        raise ValueError(f"task {task.name!r}: its start poses are not above its target, where nothing is in the way")
    reach = np.minimum(REACH, 0.4 * (high - low))
    reach[2] = min(reach[2], reset[2] / 4.0)
    middle = np.clip(reset, low + reach, high - reach)
    seconds, phase = np.arange(steps // 2) / task.hz, rng.uniform(0.0, 2.0 * np.pi, (len(WAVES_HZ), 1, 6))
    turns = np.array(WAVES_HZ)[:, None, None] * seconds[None, :, None]
    waves = np.sin(2.0 * np.pi * turns + phase).mean(axis=0)
    stairs = np.stack([_stairs(rng, steps - len(waves)) for _ in range(6)], axis=1)
    return middle + reach * np.concatenate([waves, stairs])


def _stairs(rng: np.random.Generator, steps: int) -> np.ndarray:
    """`(steps,)` in -1..1, each value held for a while; half of them are near the last one, the others anywhere."""
    values, now = np.empty(0), 0.0
    while len(values) < steps:
        near = rng.random() < 0.5
        now = float(np.clip(now + rng.uniform(-0.3, 0.3), -1.0, 1.0)) if near else rng.uniform(-1.0, 1.0)
        values = np.append(values, np.full(rng.integers(*HOLD), now))
    return values[:steps]


class Shaker:
    """What acts: it goes where `excitation` says, another motion in each episode. `calls` is the actor's to count."""

    calls = 0

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._rng, self._target = task, np.random.default_rng(seed), pose_from_vector(task.target).tolist()
        self._wanted = excitation(task, self._rng, task.max_steps)

    def __call__(self, now: PolicyParams, obs: Mapping[str, np.ndarray], step: int) -> np.ndarray:
        if step == 0:
            self._wanted = excitation(self._task, self._rng, self._task.max_steps)
        action, pose = np.zeros(self._task.action_dim), pose_of(self._task, obs["state"].astype(np.float64)).tolist()
        wanted = pose_from_offset(self._wanted[step].tolist(), self._target).tolist()
        action[:6] = np.clip(displacement(pose, wanted, self._task.action_scale), -1.0, 1.0)
        return action


def log_stage(
    logging: Logging, task: Task, folder: Path, realtime: bool, progress: Callable[[int], None] = lambda steps: None
) -> dict[str, Any]:
    """Streams the motion through `RobotEnv` and writes it to a journal in `folder`; what came of it.

    Args:
        realtime: hold the task's rate on the wall clock; a robot always does.
        progress: called with the number of steps taken.

    Raises:
        ValueError: something does not fit, or the folder is taken.
        ConnectionError: the arm cannot be reached.
        ArmFault: the arm was stopped; what came before it is in the journal.
    """
    check_task(task, logging.arm)
    # Poses and forces are all that counts; from one start pose, so that a task that hides the target is no riddle.
    alone = replace(task, cameras=(), reset_range=(0.0,) * 6, max_steps=logging.steps)
    shaker = Shaker(alone, logging.seed)
    info = journal_info(alone, f"a motion to fit a twin to, on {logging.arm}, seed {logging.seed}")
    prepare(folder, {"command": "twin log", **vars(logging)}, resume=False)
    touched = taken = 0
    paced = realtime or not parse_arm(logging.arm).simulated
    with (
        closing(make.make_env(alone, logging.arm, realtime=paced)) as env,
        closing(Journal.open(folder / JOURNAL, info)) as journal,
    ):
        recording = Recording(journal, logging.arm)
        attendant, policies = attendant_of(logging.arm), {0: shaker}
        actor = Actor(env, policies, logging.seed, attendant, session=recording.session)  # type: ignore[arg-type]
        while taken < logging.episodes * logging.steps:
            step = actor.step(NOTHING)
            recording.take(step)
            if step.fault is not None:
                raise ArmFault(f"the arm was stopped: {step.fault}; look at it, and log again into another folder")
            taken, touched = taken + 1, touched + int(in_contact(step.transition.next_obs["state"][None])[0])
            progress(taken)
        pace = {} if env.pace is None else {"realtime": env.pace.summary()}
    return {"data": str(folder), "episodes": logging.episodes, "steps": taken, "in contact": touched, **pace}
