"""The D4RL tasks that there are, by name. A module of `MODULES` holds `TASKS`; it is loaded when a name is looked up."""

import importlib
from collections.abc import Sequence

import numpy as np

from sim.d4rl import D4RLTask

MODULES = ("adroit", "antmaze", "kitchen", "locomotion")


def d4rl_tasks() -> dict[str, D4RLTask]:
    """All of them, by name."""
    return {task.name: task for module in MODULES for task in importlib.import_module(f"sim.{module}").TASKS}


def find_d4rl_task(name: str) -> D4RLTask:
    """The task of that name. Raises `ValueError` that lists the names there are."""
    tasks = d4rl_tasks()
    if name not in tasks:
        raise ValueError(f"task {name!r} is unknown; choose one of {', '.join(tasks)}")
    return tasks[name]


def get_normalized_score(name: str, returns: float | Sequence[float]) -> float:
    """The mean normalised score of raw returns on a task that is scored by them. Raises `ValueError` for another name."""
    task = find_d4rl_task(name)
    if task.scored != "return":
        raise ValueError(f"task {name!r} is scored by success, not by its return; take 100 x the success rate")
    return float(np.mean([task.normalized(value, False) for value in np.atleast_1d(returns)]))
