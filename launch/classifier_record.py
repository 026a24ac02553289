"""Labelled frames from the twin: scripted hands play, the simulator tells the truth.

What makes a classifier good is the negatives that look like success, so the frames are chosen by where the peg is: far from
the hole, at its rim, and in it but not down. After a success the hand stays and fidgets, then pulls the peg out again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from launch.actor import episode_seed
from launch.attendant import TWINS_RUNNER
from launch.classifier_data import Labelled
from launch.collect import ScriptedHand, widened
from launch.recipes import check_seed
from launch.tasks import AnyTask
from robot_env.arm import ArmState
from robot_env.env import RobotEnv
from robot_env.make import make_env
from robot_env.observation import Observation
from robot_env.success import GeometricSuccess
from robot_env.tasks import Task
from robot_env.tasks.peg_insertion import PegScene

GOOD_SHARE = 0.7  # of the episodes; the others are clumsy and press beside the hole
HAND_STEPS, HOLD_STEPS, PULL_STEPS = 60, 10, 10  # at most: until it is in, staying in, coming out
FIDGET = 0.3  # standard deviation of the actions while it stays, of full scale
PULL = (0.05, 0.4)  # how fast it comes out, of full scale, drawn for each episode
RIM_M = 0.006  # so near above the rim, a peg is at the hole
AT_RIM_M = 0.001  # deeper than that it is in
MOST = 4  # frames of a kind from one episode: more would be alike
SHARES: Mapping[str, float] = {"far": 0.2, "rim": 0.4, "inside": 0.4}  # of the negatives
FRUITLESS = 100  # episodes on end without a wanted frame, before it gives up


class Never:
    """Success that never comes: an episode goes on after it."""

    def begin(self) -> None: ...

    def __call__(self, state: ArmState, obs: Observation) -> bool:
        return False


@dataclass(frozen=True)
class Moment:
    """What was seen at a step, and what sort of moment it is."""

    obs: Observation
    step: int
    kind: str


def check_task_with_cameras(task: AnyTask) -> Task:
    """The task. Raises `ValueError` where it has no cameras."""
    if not isinstance(task, Task) or not task.cameras:
        raise ValueError(f"--task {task.name}: it has no cameras; give one that has, such as peg_insertion_image")
    return task


def check_recordable(task: AnyTask) -> Task:
    """The task. Raises `ValueError` where it has no cameras, or no script."""
    found = check_task_with_cameras(task)
    if not isinstance(found.scene, PegScene):
        raise ValueError(f"--task {task.name}: there is no script for it; give frames of a video with --camera")
    return found


def quotas(positives: int, negatives: int) -> dict[str, int]:
    """How many frames of each kind. Raises `ValueError` for none of a label."""
    if positives < 1 or negatives < 1:
        raise ValueError(f"--positives {positives}, --negatives {negatives}: give at least 1 of each")
    wanted = {"success": positives} | {kind: int(share * negatives) for kind, share in SHARES.items()}
    wanted["inside"] += negatives - sum(wanted[kind] for kind in SHARES)
    return wanted


def record(
    task: Task, positives: int, negatives: int, seed: int, progress: Callable[[int], None] = lambda n: None
) -> Labelled:
    """Frames from as many episodes as it takes.

    Args:
        progress: called with the number of frames so far.

    Raises:
        ValueError: the hands never get where frames are still wanted.
    """
    check_seed(seed)
    wanted = quotas(positives, negatives)
    hand = ScriptedHand(GOOD_SHARE)
    longer = replace(widened(task, 1.2), max_steps=HAND_STEPS + HOLD_STEPS + PULL_STEPS)
    env = make_env(longer, success=Never(), truth=GeometricSuccess(longer))
    taken: list[tuple[int, Moment]] = []
    episode = fruitless = 0
    try:
        while any(wanted.values()):
            rng = np.random.default_rng([seed, episode])
            chosen = choose(play(env, hand, episode, seed, rng), wanted, rng)
            fruitless = 0 if chosen else fruitless + 1
            if fruitless == FRUITLESS:
                raise ValueError(
                    f"classifier record: no frame of kind {', '.join(k for k in wanted if wanted[k])} in {FRUITLESS} "
                    f"episodes of {task.name!r}; ask for fewer frames"
                )
            wanted = {kind: count - sum(m.kind == kind for m in chosen) for kind, count in wanted.items()}
            taken += [(episode, moment) for moment in chosen]
            episode += 1
            progress(len(taken))
    finally:
        env.close()
    return _labelled(task, taken, f"scripted in the twin, {episode} episodes, seed {seed}")


def play(env: RobotEnv, hand: ScriptedHand, episode: int, seed: int, rng: np.random.Generator) -> list[Moment]:
    """An episode: the hand inserts, stays, and pulls out."""
    obs, _ = env.reset(seed=episode_seed(seed, episode))
    hand.begin(env, episode, rng)
    moments: list[Moment] = []
    stay, pull, speed = rng.integers(1, HOLD_STEPS + 1), rng.integers(PULL_STEPS + 1), rng.uniform(*PULL)
    since = None  # steps since it was in for the first time
    over, info = False, {}
    while not over and (since is None or since < stay + pull) and (since is not None or len(moments) < HAND_STEPS):
        if since is None:
            action = hand.act(obs)
        else:
            action = FIDGET * rng.standard_normal(6)
            action[2] -= speed if since >= stay else 0.0  # the tool's z axis points down
            since += 1
        obs, _, _, over, info = env.step(action)
        if "fault" not in info:
            moments.append(Moment(obs, len(moments), kind_of(env, info["truth"])))
        since = 0 if since is None and info["truth"] else since
    if "fault" in info:
        env.acknowledge(TWINS_RUNNER)
    return moments


def kind_of(env: RobotEnv, truth: bool) -> str:
    """Where the peg is, as the simulator knows."""
    if truth:
        return "success"
    arm = env.arm
    above_rim = arm.read().tcp_pose[2] - arm.hole_pose[2] - env.task.scene.hole_depth_m  # type: ignore[attr-defined]
    return "far" if above_rim > RIM_M else "rim" if above_rim > -AT_RIM_M else "inside"


def choose(moments: list[Moment], wanted: Mapping[str, int], rng: np.random.Generator) -> list[Moment]:
    """At most `MOST` of each kind, no more than are wanted; a success as it came is one of them: it is what a reward sees."""
    chosen: list[Moment] = []
    for kind, count in wanted.items():
        found = [moment for moment in moments if moment.kind == kind]
        order = rng.permutation(len(found))
        if kind == "success":
            order = sorted(order, key=bool)
        chosen += [found[i] for i in sorted(order[: min(count, MOST)])]
    return chosen


def _labelled(task: Task, taken: list[tuple[int, Moment]], provenance: str) -> Labelled:
    kind = np.array([moment.kind for _, moment in taken])
    return Labelled(
        task.name,
        provenance,
        {name: np.stack([moment.obs[name] for _, moment in taken]) for name in task.cameras},
        kind == "success",
        np.array([episode for episode, _ in taken], np.int64),
        np.array([moment.step for _, moment in taken], np.int64),
        kind,
    )
