"""What there is: methods, bridges, presets and tasks, as plain data."""

import dataclasses
import importlib
from typing import Any

from agent.bridges import bridge_class, bridge_names
from agent.methods import find_method, method_names
from agent.types import at_step
from launch.build import offline_phase, online_plan
from launch.presets import PRESETS
from launch.recipes import Offline, Online
from launch.tasks import find_task, spaces_of, task_names
from robot_env.tasks import Task
from sim.d4rl import D4RLTask

# Bridges are asked what they need with an online method that has all that a bridge may change.
PROBE = "calql"
# Environment steps that an on-policy method is asked with: the fewest that hold a minibatch.
ROLLOUT = Online().batch_size


def methods() -> dict[str, list[dict[str, Any]]]:
    """Methods, bridges and presets, with what each is and needs, and which combinations are refused."""
    return {
        "methods": [_method(name) for name in method_names()],
        "bridges": [_bridge(name) for name in bridge_names()],
        "refusals": _refusals(),
        "presets": [{"name": p.name, "tasks": list(p.tasks), "source": p.source} for p in PRESETS.values()],
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
        "offline": method.not_offline or True,
        "online": method.not_online or True,
        "acts": "samples" if method.explore is None else "its mode with noise",
        "needs": [
            *(f"a {how} copy of {group}" for group, how in method.targets.items()),
            *(f"{group} as it came" for group in method.frozen),
            *(["rollouts of its own policy, in lockstep"] if method.rollout else []),
        ],
    }


def _bridge(name: str) -> dict[str, Any]:
    settings = {f.name: f.default for f in dataclasses.fields(bridge_class(name))}
    return {"name": name, "what": _summary(f"agent.bridges.{name}"), "settings": settings, "needs": _needs(name)}


def _needs(bridge: str) -> dict[str, Any]:
    """What a bridge starts from, read from the phases that it makes of real ones.

    `offline_result`: the groups that it takes over from pre-training; none where it starts from nothing. `offline_data`: the
    largest share of the data set in a batch, as acting begins. `first`: environment steps before the whole online method
    learns, by phase.
    """
    offline = offline_phase(Offline(PROBE))
    phases = online_plan(Online(PROBE, bridge=bridge), offline)
    acting = [phase for phase in phases if phase.env_steps]
    anew = {group for phase in acting for group in phase.fresh}
    before = offline.method.updated if offline.method and offline in phases else ()
    return {
        "offline_result": [group for group in before if group not in anew],
        "offline_data": max(float(at_step(phase.shares, 0).get("offline", 0.0)) for phase in acting),
        "first": {phase.name: phase.env_steps for phase in acting[:-1]},
    }


def _refusals() -> list[dict[str, str]]:
    """Every bridge with every online method that makes no sense, at the bridge's own settings."""
    found = []
    for bridge in bridge_names():
        for online in method_names():
            try:
                online_plan(Online(online, bridge=bridge, block=ROLLOUT))
            except ValueError as error:
                found.append({"bridge": bridge, "online": online, "reason": str(error)})
    return found


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
