"""What there is: methods, bridges and tasks, as plain data."""

import dataclasses
import importlib
from typing import Any

from agent.bridges import bridge_class, bridge_names
from agent.methods import find_method, method_names
from launch.tasks import find_task, spaces_of, task_names
from robot_env.tasks import Task
from sim.d4rl import D4RLTask


def methods() -> dict[str, list[dict[str, Any]]]:
    """Methods and bridges, with what each is and which numbers it takes."""
    return {
        "methods": [_method(name) for name in method_names()],
        "bridges": [_bridge(name) for name in bridge_names()],
    }


def tasks() -> dict[str, list[dict[str, Any]]]:
    """Tasks, with observation, action, limit and success test."""
    return {"tasks": [_task(name) for name in task_names()]}


def _method(name: str) -> dict[str, Any]:
    method = find_method(name)
    return {
        "name": name,
        "what": _summary(f"agent.methods.{name}"),
        "groups": ", ".join(method.updated),
        "coef": dict(method.coef),
    }


def _bridge(name: str) -> dict[str, Any]:
    settings = {f.name: f.default for f in dataclasses.fields(bridge_class(name))}
    return {"name": name, "what": _summary(f"agent.bridges.{name}"), "settings": settings}


def _task(name: str) -> dict[str, Any]:
    task = find_task(name)
    observation, action = spaces_of(task)
    return {
        "name": name,
        "what": _summary(f"robot_env.tasks.{name}") if isinstance(task, Task) else task.what,
        "observation": {key: list(space.shape or ()) for key, space in observation.items()},
        "action": list(action.shape),
        "max_steps": task.max_steps,
        "hz": task.hz,
        "discount": task.discount,
        "success": _success(task),
        "reward": f"{task.reward_scale:g} x ({task.reward}) {task.reward_shift:+g}",
        "scored": None if isinstance(task, Task) else {"what": task.scored, "reference": list(task.reference)},
    }


def _success(task: Task | D4RLTask) -> str:
    if isinstance(task, D4RLTask):
        return task.success
    metres, radians = task.success_tolerance
    return f"within {1000 * metres:g} mm of the target in height and {radians:g} rad"


def _summary(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").split("\n")[0]
