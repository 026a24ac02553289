"""Rows of numbers as files hold them: checked one by one, and put together into episodes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.replay.dataset import Dataset
from agent.replay.record import DTYPES, MAX_RANK


def numbers(values: Any, name: str, where: str) -> np.ndarray:
    """`(N, ...)` numbers with the dtype that they have, little-endian.

    Raises:
        ValueError: they are none, or of a dtype that a journal cannot hold.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{where}: {name} holds lists of different lengths; store an array") from error
    if array.dtype.byteorder == ">" and array.dtype.kind in "iuf":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.str not in DTYPES:
        raise ValueError(f"{where}: {name} is of dtype {array.dtype}, which is no plain number; store numbers")
    if array.ndim > MAX_RANK:
        raise ValueError(f"{where}: {name} has {array.ndim} dimensions; keep at most {MAX_RANK}")
    return array


def observations(values: Any, name: str, where: str) -> np.ndarray:
    """`(N, D, ...)` observations. Raises `ValueError`."""
    array = numbers(values, name, where)
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise ValueError(f"{where}: {name} has shape {array.shape}; store an array for each step, (steps, size)")
    return array


def actions(values: Any, where: str) -> np.ndarray:
    """`(N, A)` real-valued actions. Raises `ValueError`."""
    array = numbers(values, "actions", where)
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind != "f":
        raise ValueError(
            f"{where}: actions are {array.shape} of {array.dtype}; only real-valued ones can be learned, (steps, size)"
        )
    return array


def per_step(values: Any, name: str, where: str) -> np.ndarray:
    """`(N,)`, of one number for each step; some files write it `(N, 1)`. Raises `ValueError`."""
    array = numbers(values, name, where)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise ValueError(f"{where}: {name} has shape {array.shape}; store one number for each step")
    return array


def marks(values: Any, name: str, where: str) -> np.ndarray:
    """`(N,)` bool, of numbers that are 0 or 1. Raises `ValueError`."""
    array = per_step(values, name, where)
    wrong = ~((array == 0) | (array == 1))
    if wrong.any():
        raise ValueError(f"{where}: {name} holds {array[wrong][0]} in row {int(wrong.argmax())}; store 0 or 1")
    return array.astype(bool)


def same_rows(arrays: Mapping[str, np.ndarray], where: str) -> int:
    """How many rows all of them have. Raises `ValueError` where one has more or fewer, or there are none."""
    counts = {name: len(x) for name, x in arrays.items()}
    (first, rows), *others = counts.items()
    for name, count in others:
        if count != rows:
            raise ValueError(f"{where}: {name} has {count} rows, {first} has {rows}; store as many of each")
    if not rows:
        raise ValueError(f"{where}: it holds no step; give a file with at least one episode")
    return rows


def follows(obs: Mapping[str, np.ndarray], next_obs: Mapping[str, np.ndarray]) -> np.ndarray:
    """`(N - 1,)` whether a row's next observation is the observation of the row that follows."""
    joined = np.ones(len(next(iter(obs.values()))) - 1, bool)
    for name in obs:
        before, after = next_obs[name][:-1], obs[name][1:]
        same = (before == after) | ((before != before) & (after != after))  # a NaN is no break
        joined &= same.all(axis=tuple(range(1, same.ndim)))
    return joined


def first_rows(end: np.ndarray) -> np.ndarray:
    """`(N,)` the row at which each row's episode begins, from `end (N,)`, true on each last step."""
    row = np.arange(len(end))
    begins = np.concatenate([[True], end[:-1]])
    return np.maximum.accumulate(np.where(begins, row, 0))


def succeeded_by_then(success: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`(N,)` whether the episode has succeeded at or before each row, from whether each step succeeds."""
    row = np.arange(len(end))
    return np.maximum.accumulate(np.where(success, row, -1)) >= first_rows(end)


def cut_where_broken(
    obs: Mapping[str, np.ndarray], next_obs: Mapping[str, np.ndarray], terminated: np.ndarray, truncated: np.ndarray
) -> np.ndarray:
    """`(N,)` `truncated`, also where no end is marked but nothing that belongs to the row follows it."""
    broken = np.concatenate([~follows(obs, next_obs), [True]])
    return truncated | (broken & ~terminated)


def named_observations(dataset: Dataset) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Observations and next observations by name."""
    c, names = dataset.columns, dataset.layout.obs
    return {name: c[f"obs/{name}"] for name in names}, {name: c[f"next_obs/{name}"] for name in names}


def episode_ends(dataset: Dataset) -> np.ndarray:
    """`(N,)` `truncated`, with which every episode of the data set ends, one that was left open too."""
    obs, next_obs = named_observations(dataset)
    return cut_where_broken(obs, next_obs, dataset.columns["terminated"], dataset.columns["truncated"])


def flattened(tree: Any, where: str, name: str = "") -> dict[str, Any]:
    """Leaves by name, of nested dicts: `a/b`. What is no dict is the leaf `state`.

    Raises:
        ValueError: a dict is empty, or a name cannot be told from a nested one.
    """
    if not isinstance(tree, Mapping):
        return {name or "state": tree}
    leaves: dict[str, Any] = {}
    for key, branch in tree.items():
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(f"{where}: an observation is called {key!r:.80}; use a word without '/'")
        leaves |= flattened(branch, where, f"{name}/{key}" if name else key)
    if not leaves:
        raise ValueError(f"{where}: observations {name or 'of a step'} hold nothing; store at least one array")
    return leaves


def nested(leaves: Mapping[str, Any], where: str) -> Any:
    """The inverse of `flattened`. Raises `ValueError` where a name is also the beginning of another."""
    if set(leaves) == {"state"}:
        return leaves["state"]
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split("/")
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
        if not all((*path, last)) or "." in (*path, last) or not isinstance(branch, dict) or last in branch:
            raise ValueError(f"{where}: an observation called {name!r} does not fit in with the others; rename it")
        branch[last] = leaf
    return tree
