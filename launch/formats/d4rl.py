"""D4RL's HDF5 files, and the same arrays in an `.npz`.

`observations (N, D)`, `actions (N, A)`, `rewards (N,)`, `terminals (N,)`, and perhaps `timeouts`, `next_observations`,
`infos/*` and `metadata/*`. The observation is called `state` here. Fu et al. 2020, and D4RL's `qlearning_dataset`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from agent.replay.dataset import Dataset, DatasetInfo
from launch.formats import rows
from launch.formats.source import existing_file, raw, told, written_whole

NEEDED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
SUCCESS = ("infos/success", "success")  # the first of them that a file has
Arrays = dict[str, np.ndarray]


def read(path: Path, info: DatasetInfo, max_steps: int | None = None) -> Dataset:
    """The data of a file, with the dtypes that it has.

    An episode ends at a terminal, at a timeout, and where `next_observations` is not what follows. Without `next_observations`
    the last step before a timeout has none and is left out, as D4RL does; a terminal's is never used and is its own.

    Args:
        info: what the numbers mean; its provenance grows by where they come from, and what was left out.
        max_steps: after how many steps an episode ends in a file that has no `timeouts`.

    Raises:
        ValueError: in one sentence, where the file cannot be read or does not hold what it should.
    """
    where = f"d4rl file {existing_file(path, 'd4rl')}"
    arrays, others = _load(path, where)
    obs = rows.observations(arrays["observations"], "observations", where)
    columns: Arrays = {"actions": rows.actions(arrays["actions"], where)}
    columns["rewards"] = rows.per_step(arrays["rewards"], "rewards", where)
    for name in ("terminals", "timeouts", "success"):
        if name in arrays:
            columns[name] = rows.marks(arrays[name], name, where)
    next_obs = None
    if "next_observations" in arrays:
        next_obs = rows.observations(arrays["next_observations"], "next_observations", where)
        if next_obs.shape[1:] != obs.shape[1:] or next_obs.dtype != obs.dtype:
            raise ValueError(
                f"{where}: next_observations are {next_obs.shape[1:]} of {next_obs.dtype}, observations are "
                f"{obs.shape[1:]} of {obs.dtype}; store both alike"
            )
    rows.same_rows(
        {"observations": obs, **columns} | ({} if next_obs is None else {"next_observations": next_obs}), where
    )
    notes = [f"Left out: {', '.join(others)}."] if others else []
    if "timeouts" not in columns:
        columns["timeouts"] = _limit(columns["terminals"], obs, next_obs, max_steps)
        limit = f"after {max_steps} steps, the task's limit" if max_steps else "at terminals only, no limit being known"
        notes.append(f"The file has no timeouts: episodes end {limit}.")
    return _episodes(path, info, obs, next_obs, columns, notes)


def write(dataset: Dataset, path: Path) -> None:
    """Writes a new file with `next_observations`, raw rewards and what the numbers mean; whole or not at all.

    It holds neither what was executed nor who acted. Rewards are float32 where that changes none of them.

    Raises:
        ValueError: there is a file already, or the data has other observations than `state`.
    """
    dataset = raw(dataset)
    names = list(dataset.layout.obs)
    if names != ["state"]:
        raise ValueError(
            f"d4rl file {path}: the data has the observations {', '.join(names)}, the format only one, state; "
            "write it with format minari"
        )
    c, reward = dataset.columns, dataset.columns["reward"]
    with np.errstate(over="ignore"):
        short = reward.astype(np.float32)
    arrays = {
        "observations": c["obs/state"],
        "actions": c["action"],
        "next_observations": c["next_obs/state"],
        "rewards": short if np.array_equal(short, reward) else reward,
        "terminals": c["terminated"],
        "timeouts": rows.episode_ends(dataset),
        "infos/success": c["success"],
    }
    with written_whole(path, "d4rl file") as part, h5py.File(part, "w") as file:
        for name, x in arrays.items():
            file.create_dataset(name, data=x, compression="gzip", shuffle=True)
        file.create_group("metadata").attrs["segue"] = json.dumps(asdict(dataset.info))


def _load(path: Path, where: str) -> tuple[Arrays, list[str]]:
    """The arrays that are read, `success` among them, and the names of the others."""
    try:
        with _opened(path) as (file, names):
            success = next((name for name in SUCCESS if name in names), None)
            known = {name: name for name in (*NEEDED, *OPTIONAL) if name in names}
            known |= {"success": success} if success else {}
            arrays = {name: file[its][()] for name, its in known.items()}
    except Exception as error:  # a damaged file makes both libraries raise nearly anything
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where}: it is no whole HDF5 or npz file ({what}); copy it again") from error
    for name in NEEDED:
        if name not in arrays:
            held = ", ".join(sorted(names)[:8]) or "nothing"
            raise ValueError(f"{where}: {name} is missing, it holds {held}; give a file in D4RL's format")
    return arrays, sorted(names - set(known.values()))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, set[str]]]:
    """The open file and the names of its arrays."""
    if path.suffix == ".npz":
        with path.open("rb") as held, np.load(held, allow_pickle=False) as file:  # numpy would leave a bad one open
            yield file, set(file.files)
        return
    with h5py.File(path, "r") as file:
        names: set[str] = set()
        file.visititems(lambda name, node: names.add(name) if isinstance(node, h5py.Dataset) else None)
        yield file, names


def _limit(terminal: np.ndarray, obs: np.ndarray, next_obs: np.ndarray | None, max_steps: int | None) -> np.ndarray:
    """`(N,)` where an episode reaches its time limit."""
    if max_steps is None:
        return np.zeros(len(terminal), bool)
    end = terminal.copy()
    if next_obs is not None:
        end[:-1] |= ~rows.follows({"": obs}, {"": next_obs})
    place = np.arange(len(end)) - rows.first_rows(end)
    return (place % max_steps == max_steps - 1) & ~terminal


def _episodes(
    path: Path, info: DatasetInfo, obs: np.ndarray, next_obs: np.ndarray | None, columns: Arrays, notes: list[str]
) -> Dataset:
    """The rows with a next observation, and notes on those without."""
    terminated, timeout = columns["terminals"], columns["timeouts"]
    success, keep = columns.get("success"), np.ones(len(obs), bool)
    if next_obs is not None:
        truncated = rows.cut_where_broken({"": obs}, {"": next_obs}, terminated, timeout)
        if cut := int((truncated & ~timeout).sum()):
            notes.append(f"{cut} episodes were cut where the next observation is not what follows, or the file ends.")
    else:
        keep = terminated | ~timeout
        keep[-1] &= terminated[-1]
        next_obs = np.concatenate([obs[1:], obs[-1:]])
        next_obs[terminated] = obs[terminated]
        truncated = timeout.copy()
        truncated[:-1] |= ~keep[1:] & ~terminated[:-1]
        if lost := int((~keep).sum()):
            notes.append(f"{lost} last steps of episodes were left out: the file holds no observation after them.")
    if not keep.any():
        raise ValueError(f"d4rl file {path}: no step has a next observation; give longer episodes")
    if success is not None:
        end = terminated | timeout
        by_then = rows.succeeded_by_then(success & keep, end)
        if only := int((rows.succeeded_by_then(success, end) & ~by_then & ~keep).sum()):
            notes.append(f"{only} episodes succeed only in the step left out, and so not at all.")
        success = rows.succeeded_by_then(success & keep, terminated | truncated)
    whence = told(info, "d4rl", [path], path, notes)
    observed = {"state": obs}, {"state": next_obs}
    data = Dataset.of(whence, *observed, columns["actions"], columns["rewards"], terminated, truncated, success)
    return data if keep.all() else data.rows(keep)
