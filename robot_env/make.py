"""`make_env`: the one place that turns names into an environment. An arm is one line in `ARMS`."""

import importlib
from typing import Any

from robot_env.arm import Arm
from robot_env.env import RobotEnv
from robot_env.intervention import Intervention
from robot_env.pace import Pace
from robot_env.success import Success
from robot_env.tasks import Task, find_task

ARMS = {  # name: (module, class), imported only when asked for; the class takes the task first
    "franky": ("robot_env.franky", "FrankyArm"),
    "panda": ("robot_env.panda", "PandaArm"),
    "twin": ("sim.twin_arm", "TwinArm"),
}


def make_arm(task: Task, arm: str = "twin", **options: Any) -> Arm:
    """The arm of that name, not yet connected. Raises `ValueError` that lists the names there are.

    Args:
        options: handed to the arm's class.
    """
    check_arm(arm)
    module, name = ARMS[arm]
    return getattr(importlib.import_module(module), name)(task, **options)


def check_arm(arm: str) -> None:
    """Raises `ValueError` that lists the names there are, where this is none; loads nothing."""
    if arm not in ARMS:
        raise ValueError(f"arm {arm!r} is unknown; choose one of {', '.join(sorted(ARMS))}")


def make_env(
    task: Task | str,
    arm: Arm | str = "twin",
    success: Success | None = None,
    intervention: Intervention | None = None,
    truth: Success | None = None,
    realtime: bool = False,
    **options: Any,
) -> RobotEnv:
    """The environment of a task on an arm; going from the twin to a robot is another `arm`.

    Args:
        task: a task or its name.
        arm: an arm or its name.
        success: what counts as success; by default the task's geometry.
        intervention: a human's device.
        truth: a twin's own verdict, told in `info["truth"]` beside `success`.
        realtime: hold the task's control rate on the wall clock; otherwise as fast as the arm lets time pass.
        options: handed to the arm's class when `arm` is a name.
    """
    if isinstance(task, str):
        task = find_task(task)
    if isinstance(arm, str):
        arm = make_arm(task, arm, **options)
    elif options:
        raise ValueError(
            f"options {sorted(options)} have nowhere to go; pass the arm's name, or build the arm with them"
        )
    pace = Pace(task.hz) if realtime else None
    return RobotEnv(task, arm, success=success, intervention=intervention, truth=truth, pace=pace)
