"""A motion as a data set has it: poses, velocities, references and forces again, of each control period of each episode."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from launch.data_tools import open_journal, require_finite, stretches
from launch.tasks import spaces_of
from robot_env.pose import displace, pose_from_offset, pose_from_vector, quat_from_euler, quat_multiply, rotate
from robot_env.tasks import Task
from sim.replay import Motion

# Norms of the wrench beyond which the tool touches something. Tared, a robot's estimate in free space stays below 3 N, and the
# twin's, of which the inertia of hand and peg is all, below 1.4 N and 0.05 N·m under `segue twin log`. 1 N·m is 5 N at the tip.
CONTACT_N, CONTACT_NM = 5.0, 1.0


@dataclass(frozen=True)
class Episode:
    """All control periods of one, and which of them are of use `(n,)`: moved in free space."""

    motion: Motion
    free: np.ndarray

    def stretch(self, longest: int) -> Motion:
        """The first periods of use that follow one another, at most so many, of the longest such run."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.free.astype(int), [0]])))
        begin, end = max(edges.reshape(-1, 2), key=lambda edge: edge[1] - edge[0], default=(0, 0))
        return self.motion.rows(slice(begin, min(end, begin + longest)))


@dataclass(frozen=True)
class Log:
    """What was logged.

    Attributes:
        task: whose box, scene and rate hold.
        episodes: in order.
        steps, in_contact: control periods in all, and of these those in which the tool touched something.
    """

    task: Task
    episodes: list[Episode]
    steps: int
    in_contact: int


def read_log(path: Path) -> Log:
    """The motion in a data set, or in the journal of a run. Raises `ValueError` where it holds none of an arm."""
    source = open_journal(path)
    task, dataset = source.task, source.dataset
    if not isinstance(task, Task):
        raise ValueError(f"log {path}: its task {dataset.info.task!r} has no arm; give one of `segue twin log`")
    shapes = {"obs/state": spaces_of(task)[0]["state"].shape, "executed": (task.action_dim,)}
    for name, shape in shapes.items():
        found = dataset.columns[name].shape[1:] if name in dataset.columns else None
        if found != shape:
            raise ValueError(
                f"log {path}: {name} has shape {found}, task {task.name!r} has {shape}; give data of this task"
            )
    require_finite(dataset, path, "leave their episodes out")
    obs, following, executed = (dataset.columns[name] for name in ("obs/state", "next_obs/state", "executed"))
    touched = in_contact(obs) | in_contact(following)
    # A step that a fault cut short moved nothing, and repeats what was seen before.
    still = (executed == 0.0).all(axis=1) & (obs == following).all(axis=1)
    free = ~touched & ~still
    episodes = [
        Episode(_motion(task, obs[part], following[part], executed[part]), free[part]) for part in stretches(dataset)
    ]
    return Log(task, episodes, len(dataset), int(touched.sum()))


def in_contact(state: np.ndarray) -> np.ndarray:
    """Whether the tool touched something, `(n,)` bool, of observed states `(n, 19)`."""
    force, torque = np.linalg.norm(state[:, 1:4], axis=1), np.linalg.norm(state[:, 10:13], axis=1)
    return (force > CONTACT_N) | (torque > CONTACT_NM)


def pose_of(task: Task, state: np.ndarray) -> np.ndarray:
    """The measured pose `(7,)` in the base frame of an observed state `(19,)`.

    Where a task shows poses relative to the episode's first one, that is taken to be the middle of the start poses.
    """
    seen, target = state[4:10].tolist(), pose_from_vector(task.target).tolist()
    if task.relative_to == "target":
        return pose_from_offset(seen, target)
    origin = pose_from_offset(task.reset, target).tolist()
    shift = rotate(origin[3:], seen[:3])
    return np.array([*np.add(origin[:3], shift), *quat_multiply(origin[3:], quat_from_euler(seen[3:]))])


def _motion(task: Task, obs: np.ndarray, following: np.ndarray, executed: np.ndarray) -> Motion:
    """The control periods `(n, ...)` of one episode."""
    pose, velocity = _seen(task, obs)
    next_pose, next_velocity = _seen(task, following)
    sent = zip(pose.tolist(), executed.tolist(), strict=True)
    reference = np.array([displace(now, action[:6], task.action_scale) for now, action in sent])
    joined = (obs[1:] == following[:-1]).all(axis=1)
    last = np.concatenate([pose[:1], np.where(joined[:, None], reference[:-1], pose[1:])])
    return Motion(pose, velocity, reference, last, next_pose, next_velocity)


def _seen(task: Task, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses `(n, 7)` and velocities `(n, 6)` in the base frame of observed states `(n, 19)`."""
    poses = np.array([pose_of(task, state) for state in states.astype(np.float64)])
    turned = zip(poses[:, 3:].tolist(), states[:, 13:19].tolist(), strict=True)
    return poses, np.array([[*rotate(q, v[:3]), *rotate(q, v[3:])] for q, v in turned])
