"""SERL's and HIL-SERL's pickled transitions: a file, or a folder of files that a run dumped every so many steps.

Each is a list of dicts of `observations`, `actions`, `next_observations`, `rewards`, `masks`, `dones`, and perhaps `infos` and
`grasp_penalty`. Luo et al. 2024. Observations are called as they are there, `a/b` where nested, a single array `state`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.replay.dataset import Dataset, DatasetInfo
from agent.types import SOURCES
from launch.formats import rows
from launch.formats.pickles import load_pickle
from launch.formats.source import existing_file, told

NEEDED = ("observations", "actions", "next_observations", "rewards", "masks", "dones")
Arrays = dict[str, np.ndarray]
Rows = Sequence[tuple[str, Any]]  # where a transition is, in words, and what it is


def read(path: Path, info: DatasetInfo, max_steps: int | None = None) -> Dataset:
    """The transitions of a file, or of all `*.pkl` files of a folder, stitched in the order of the numbers in their names.

    A mask of 0 is the end of the task; an episode is also cut where it is done without one, and where the next observation is
    not the one that follows. A first axis of length 1 that every observation has (SERL's chunking) is dropped. A step whose
    `infos` hold `intervene_action` is a human's. Success is what `infos` call `succeed`, else a positive reward at the end.

    Args:
        info: what the numbers mean; its provenance grows by where they come from, and what was left out.
        max_steps: of no use: an episode that goes on ends where the next observation is not what follows.

    Raises:
        ValueError: in one sentence, where the files cannot be read or do not hold what they should.
    """
    files = _files(path)
    found = [row for file in files for row in _transitions(file)]
    where = f"serl data {path}"
    if not found:
        raise ValueError(f"{where}: it holds no transition; give files with at least one")
    obs, next_obs = (_observed(found, kind) for kind in ("observations", "next_observations"))
    for name in obs.keys() | next_obs.keys():
        if name not in obs or name not in next_obs or obs[name].shape != next_obs[name].shape:
            raise ValueError(
                f"{where}: observation {name} is not alike in observations and next_observations; store both alike"
            )
        kind = np.result_type(obs[name], next_obs[name])  # that of a reset may be wider
        obs[name], next_obs[name] = obs[name].astype(kind, copy=False), next_obs[name].astype(kind, copy=False)
    notes = _unstack(obs, next_obs)
    action = rows.actions(_stacked([(at, t["actions"]) for at, t in found], "actions"), where)
    reward = rows.per_step(_stacked([(at, t["rewards"]) for at, t in found], "rewards"), "rewards", where)
    mask, done = (
        rows.marks(_stacked([(at, t[name]) for at, t in found], name), name, where) for name in ("masks", "dones")
    )
    truncated = rows.cut_where_broken(obs, next_obs, ~mask, done & mask)
    if cut := int((truncated & ~done).sum()):
        notes.append(f"{cut} episodes were cut where the next observation is not what follows, or the files end.")
    human = [_info(t).get("intervene_action") is not None for _, t in found]
    source = np.where(human, SOURCES.index("human"), SOURCES.index("offline")).astype(np.int32)
    left_out = {key for _, t in found for key in t if key not in NEEDED}
    notes += [f"Left out: {', '.join(sorted(map(str, left_out)))}."] if left_out else []
    success = _success(found, ~mask & (reward > 0), ~mask | truncated)
    whence = told(info, "serl", files, path, notes)
    return Dataset.of(whence, obs, next_obs, action, reward, ~mask, truncated, success, source=source)


def _files(path: Path) -> list[Path]:
    """The file, or the folder's in the order of the numbers in their names. Raises `ValueError`."""
    try:
        if not path.is_dir():
            return [existing_file(path, "serl")]
        files = [file for file in path.iterdir() if file.suffix in (".pkl", ".pickle") and file.name[0] != "."]
    except OSError as error:
        raise ValueError(f"serl data {path}: it cannot be opened ({error.strerror}); give one that can") from error
    if not files:
        raise ValueError(f"serl data {path}: there is no *.pkl file in it; give the folder that holds them")
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[Any]:
    """Orders names by the numbers in them: 1000 is before 10000."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", path.name))]


def _transitions(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    held = load_pickle(existing_file(file, "serl"))
    if not isinstance(held, list):
        raise ValueError(f"serl file {file}: it holds a {type(held).__name__}; give a list of transitions")
    for i, transition in enumerate(held):
        at = f"serl file {file}, transition {i}"
        if not isinstance(transition, dict):
            raise ValueError(f"{at}: it is a {type(transition).__name__}; give a dict of {', '.join(NEEDED)}")
        for name in NEEDED:
            if name not in transition:
                raise ValueError(f"{at}: {name} is missing; a transition holds {', '.join(NEEDED)}")
        yield at, transition


def _observed(found: Rows, kind: str) -> Arrays:
    """Observations `(N, ...)` by name."""
    trees = [(at, rows.flattened(t[kind], f"{at}, {kind}")) for at, t in found]
    names = trees[0][1].keys()
    for at, tree in trees:
        if tree.keys() != names:
            raise ValueError(f"{at}: {kind} are {', '.join(tree)}, in the first {', '.join(names)}; give one task's")
    arrays = {name: _stacked([(at, tree[name]) for at, tree in trees], f"{kind} {name}") for name in names}
    return {name: rows.observations(x, f"{kind} {name}", trees[0][0]) for name, x in arrays.items()}


def _stacked(values: Rows, name: str) -> np.ndarray:
    """`(N, ...)` of as many arrays or numbers, which must be alike. Raises `ValueError`."""
    arrays = []
    for at, value in values:
        if not isinstance(value, np.ndarray | np.generic | bool | int | float):
            raise ValueError(f"{at}: {name} is a {type(value).__name__}; store an array or a number")
        arrays.append(np.asarray(value))
        if arrays[-1].shape != arrays[0].shape:
            raise ValueError(
                f"{at}: {name} has shape {arrays[-1].shape}, in the first {arrays[0].shape}; give transitions of one task"
            )
    kinds = {x.dtype for x in arrays}
    if not all(kind.kind in "biuf" for kind in kinds):
        raise ValueError(f"{values[0][0]} and others: {name} is no number everywhere; store numbers")
    return np.stack(arrays)


def _unstack(obs: Arrays, next_obs: Arrays) -> list[str]:
    """Drops a first axis of length 1 that all observations have; a note where it did."""
    if not all(x.ndim > 2 and x.shape[1] == 1 for x in obs.values()):
        return []
    for columns in (obs, next_obs):
        columns |= {name: x[:, 0] for name, x in columns.items()}
    return ["The first axis of all observations, of length 1, was dropped."]


def _info(transition: dict[str, Any]) -> dict[str, Any]:
    info = transition.get("infos")
    return info if isinstance(info, dict) else {}


def _success(found: Rows, rewarded: np.ndarray, end: np.ndarray) -> np.ndarray:
    """`(N,)` whether the episode has succeeded by then."""
    told = [_info(t).get("succeed") for _, t in found]
    step = [bool(np.any(told)) if told is not None else earned for told, earned in zip(told, rewarded, strict=True)]
    return rows.succeeded_by_then(np.asarray(step, bool), end)
