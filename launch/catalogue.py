"""What there is: methods, bridges and tasks, as plain data."""

import dataclasses
import importlib
from typing import Any

from agent.bridges import bridge_class, bridge_names
from agent.methods import find_method, method_names
from robot_env.observation import make_spaces
from robot_env.tasks import find_task, task_names


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
    observation, action = make_spaces(task)
    metres, radians = task.success_tolerance
    return {
        "name": name,
        "what": _summary(f"robot_env.tasks.{name}"),
        "observation": {key: list(space.shape or ()) for key, space in observation.items()},
        "action": list(action.shape),
        "max_steps": task.max_steps,
        "hz": task.hz,
        "discount": task.discount,
        "success": f"within {1000 * metres:g} mm of the target in height and {radians:g} rad",
        "reward": f"{task.reward_scale:g} x (1 at success, else 0) {task.reward_shift:+g}",
    }


def _summary(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").split("\n")[0]
