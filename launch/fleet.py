"""Several environments of one task, stepped together: those of a task that is vectorised, or one after the other."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from launch.attendant import TWINS_RUNNER
from launch.tasks import AnyTask, Environment, TrialStart, make_env
from sim import passage


@dataclass(frozen=True)
class Steps:
    """One control step of N environments; rows that were not stepped hold nothing of use.

    Attributes:
        next_obs: arrays `(N, ...)` by name.
        action: `(N, A)` what was asked for.
        reward: `(N,)` the training reward; `raw_reward` what the score counts.
        terminated, truncated, succeed: `(N,)` bool; `succeed`: whether the episode has succeeded by now.
    """

    next_obs: Mapping[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    raw_reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    succeed: np.ndarray

    @property
    def over(self) -> np.ndarray:
        """Where an episode ended, `(N,)`."""
        return self.terminated | self.truncated


class Fleet(Protocol):
    """N environments. A row whose episode is over has to be reset before it is stepped again."""

    count: int

    def reset(self, rows: Sequence[int], starts: Sequence[TrialStart]) -> Mapping[str, np.ndarray]: ...
    def step(self, actions: np.ndarray, live: np.ndarray) -> Steps: ...
    def close(self) -> None: ...


def make_fleet(task: AnyTask, count: int) -> Fleet:
    """`count` environments of a task in the twin."""
    return PassageFleet(task, count) if is_vectorised(task) else SerialFleet(task, count)


def is_vectorised(task: AnyTask) -> bool:
    """Whether hundreds of its environments step as fast as one."""
    return task is passage.TASK


class PassageFleet:
    """The narrow passage, all rows in one array operation."""

    def __init__(self, task: AnyTask, count: int) -> None:
        self._task, self.count, self._batch = task, count, passage.PassageBatch(count)

    def reset(self, rows: Sequence[int], starts: Sequence[TrialStart]) -> Mapping[str, np.ndarray]:
        """First observations `(K, ...)` of new episodes in K rows."""
        return {"state": self._batch.reset(np.asarray(rows), np.asarray([start.seed for start in starts]))}

    def step(self, actions: np.ndarray, live: np.ndarray) -> Steps:
        """One control step of the rows that are `live (N,)`; actions `(N, A)`."""
        idle = np.flatnonzero(~live)
        self._batch.reset(idle, np.zeros(len(idle), int))
        obs, raw, terminated, truncated, success = self._batch.step(actions)
        reward = self._task.reward_scale * raw + self._task.reward_shift
        return Steps({"state": obs}, actions, reward, raw, terminated, truncated, success)

    def close(self) -> None:
        """Nothing is held."""


class SerialFleet:
    """Environments of any task, one after the other. A twin's fault is acknowledged."""

    def __init__(self, task: AnyTask, count: int) -> None:
        self.count, self._envs = count, [make_env(task) for _ in range(count)]

    def reset(self, rows: Sequence[int], starts: Sequence[TrialStart]) -> Mapping[str, np.ndarray]:
        """First observations `(K, ...)` of new episodes in K rows."""
        pairs = zip(rows, starts, strict=True)
        return _stack([self._envs[row].reset(seed=s.seed, options=dict(s.options))[0] for row, s in pairs])

    def step(self, actions: np.ndarray, live: np.ndarray) -> Steps:
        """One control step of the rows that are `live (N,)`; actions `(N, A)`."""
        found: list[Any] = [_step(self._envs[i], actions[i]) if live[i] else None for i in range(self.count)]
        some = next(x for x in found if x is not None)
        found = [some if x is None else x for x in found]
        obs, *columns = zip(*found, strict=True)
        return Steps(_stack(obs), *(np.asarray(column) for column in columns))

    def close(self) -> None:
        """Closes them all."""
        for env in self._envs:
            with closing(env):
                pass


def _step(env: Environment, action: np.ndarray) -> tuple[Any, ...]:
    obs, reward, terminated, truncated, info = env.step(action)
    asked = info["requested_action"]
    if not np.isfinite(asked).all():
        asked = info["executed_action"]  # what is not finite was never sent
    if "fault" in info:
        env.acknowledge(TWINS_RUNNER)
    return obs, asked, float(reward), float(info["raw_reward"]), terminated, truncated, bool(info["succeed"])


def _stack(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
