"""DAPG's pickled demonstrations: a list of dicts of `observations (T, D)`, `actions (T, A)`, `rewards (T,)`.

Rajeswaran et al. 2018. A demonstration has no end of its own: it is cut at its last step, and never terminal. The
observation is called `state` here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agent.replay.dataset import Dataset, DatasetInfo
from launch.formats import rows
from launch.formats.pickles import load_pickle
from launch.formats.source import existing_file, told

NEEDED = ("observations", "actions", "rewards")
Arrays = dict[str, np.ndarray]


def read(path: Path, info: DatasetInfo, max_steps: int | None = None) -> Dataset:
    """The demonstrations of a file, with the dtypes that they have; of Python 2 or 3.

    Where there are as many observations as actions, the last step has no next observation and is left out.

    Args:
        info: what the numbers mean; its provenance grows by where they come from, and what was left out.
        max_steps: of no use: a demonstration is as long as it is.

    Raises:
        ValueError: in one sentence, where the file cannot be read or does not hold what it should.
    """
    where = f"dapg file {existing_file(path, 'dapg')}"
    paths = load_pickle(path)
    if not isinstance(paths, list) or not paths:
        what = "an empty list" if isinstance(paths, list) else f"a {type(paths).__name__}"
        raise ValueError(f"{where}: it holds {what}; give a list of demonstrations, each a dict")
    parts = [_demonstration(each, f"{where}, demonstration {i}") for i, each in enumerate(paths)]
    kinds = [{name: (x.dtype, x.shape[1:]) for name, x in part.items()} for part in parts]
    for i, kind in enumerate(kinds):
        for name, found in kind.items():
            if found != kinds[0][name]:
                raise ValueError(
                    f"{where}: {name} is {_words(found)} in demonstration {i}, {_words(kinds[0][name])} in the first; "
                    "give demonstrations of one task"
                )
    others = sorted({str(key) for each in paths for key in each} - {*NEEDED})
    notes = [f"Left out: {', '.join(others)}."] if others else []
    lost = sum(len(each["rewards"]) for each in paths) - sum(len(part["reward"]) for part in parts)
    if lost:
        notes.append(f"{lost} last steps of demonstrations were left out: the file holds no observation after them.")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not len(columns["reward"]):
        raise ValueError(f"{where}: no step has a next observation; give longer demonstrations")
    return Dataset.of(
        told(info, "dapg", [path], path, notes),
        {"state": columns["obs"]},
        {"state": columns["next_obs"]},
        columns["action"],
        columns["reward"],
        np.zeros(len(columns["reward"]), bool),
        columns["truncated"],
        columns["success"],
    )


def _demonstration(each: Any, where: str) -> Arrays:
    """The rows that have a next observation."""
    if not isinstance(each, dict) or any(name not in each for name in NEEDED):
        what = ", ".join(map(str, each)) if isinstance(each, dict) else f"a {type(each).__name__}"
        raise ValueError(f"{where}: it holds {what or 'nothing'}; it must hold {', '.join(NEEDED)}")
    obs = rows.observations(each["observations"], "observations", where)
    action = rows.actions(each["actions"], where)
    reward = rows.per_step(each["rewards"], "rewards", where)
    steps = rows.same_rows({"actions": action, "rewards": reward}, where)
    if len(obs) not in (steps, steps + 1):
        raise ValueError(f"{where}: observations have {len(obs)} rows for {steps} actions; store one for each")
    kept = len(obs) - 1
    truncated = np.zeros(steps, bool)[:kept]
    truncated[-1:] = True
    success = _achieved(each, steps, where)
    columns = {"obs": obs[:kept], "next_obs": obs[1:], "action": action[:kept], "reward": reward[:kept]}
    return columns | {"truncated": truncated, "success": success[:kept]}


def _achieved(each: Mapping[str, Any], steps: int, where: str) -> np.ndarray:
    """`(T,)` whether the goal has been achieved by then, where the recorder kept that."""
    infos = each.get("env_infos")
    found = infos.get("goal_achieved") if isinstance(infos, dict) else None
    if found is None:
        return np.zeros(steps, bool)
    achieved = rows.marks(found, "env_infos goal_achieved", where)
    rows.same_rows({"actions": each["actions"], "env_infos goal_achieved": achieved}, where)
    return np.logical_or.accumulate(achieved)


def _words(kind: tuple[np.dtype, tuple[int, ...]]) -> str:
    return f"{kind[1]} of {kind[0]}"
