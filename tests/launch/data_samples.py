"""Small data sets to look at and to edit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from agent.replay.dataset import Dataset
from launch.data_tools import raw_info
from launch.tasks import spaces_of


def walk(task: str, lengths: Sequence[int], wins: Sequence[int] = (), seed: int = 0) -> Dataset:
    """Episodes of a sparse task, each a random walk of its own, with raw rewards.

    Args:
        task: one of ours, whose reward is sparse.
        lengths: of the episodes, env steps; those without success are truncated at their end.
        wins: numbers of the episodes whose last step is a success, and terminal.
    """
    info, known = raw_info(task)
    assert known is not None
    failure, rng = info.truncation_value * (1.0 - info.discount), np.random.default_rng(seed)
    observations, actions = spaces_of(known)
    parts: list[dict[str, np.ndarray]] = []
    for number, length in enumerate(lengths):
        won = np.arange(length) == (length - 1 if number in wins else -1)
        states = 0.1 * rng.standard_normal((length + 1, *observations["state"].shape)).cumsum(axis=0)
        if task == "door-binary":
            states[:, 28] = 0.0  # the door's angle, rad
            states[1:, 28][won] = 1.4
        action = rng.uniform(-0.9, 0.9, (length, *actions.shape))
        ends = np.arange(length) == length - 1
        parts.append(
            {
                "obs/state": states[:-1].astype(np.float32),
                "next_obs/state": states[1:].astype(np.float32),
                "action": action.astype(np.float32),
                "executed": action.astype(np.float32),
                "reward": np.where(won, round(failure + 1.0), round(failure)).astype(np.float64),
                "terminated": won,
                "truncated": ends & ~won,
                "success": won,
                "source": np.full(length, number % 3, np.int32),
                "policy_version": np.zeros(length, np.int64),
            }
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Dataset(replace(info, provenance="A random walk."), columns)


def with_column(dataset: Dataset, name: str, values: np.ndarray) -> Dataset:
    """The same with other values in a column."""
    return replace(dataset, columns={**dataset.columns, name: values})


def episode_bytes(dataset: Dataset) -> list[bytes]:
    """All of each episode, to compare."""
    ends = np.flatnonzero(dataset.columns["terminated"] | dataset.columns["truncated"]) + 1
    starts = [0, *ends[:-1]]
    return [
        b"".join(np.ascontiguousarray(x[a:b]).tobytes() for _, x in sorted(dataset.columns.items()))
        for a, b in zip(starts, ends, strict=True)
    ]
