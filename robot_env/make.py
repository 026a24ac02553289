"""`make_env`: the one place that turns names into an environment. An arm is one line in `ARMS`."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from robot_env.arm import Arm
from robot_env.arm_with_cameras import ArmWithCameras, check_cameras
from robot_env.env import RobotEnv
from robot_env.intervention import Intervention
from robot_env.operator import Operator
from robot_env.pace import Pace
from robot_env.success import Success
from robot_env.tasks import Task, find_task

ARMS = {  # name: (module, class), imported only when asked for; it takes the task first, and then its address
    "franky": ("robot_env.franky", "FrankyArm"),
    "panda": ("robot_env.panda", "PandaArm"),
    "twin": ("sim.fitted_twin", "fitted_twin"),
    "serl": ("robot_env.serl", "SerlArm"),
}
SIMULATED = ",simulated"


class ArmName(NamedTuple):
    """How an arm is written: `NAME`, `NAME:ADDRESS`, and `,simulated` after it for a twin that is behind an address.

    Attributes:
        name: one of `ARMS`.
        address: where it is, as its class takes it, of a twin the file of its fit; None for the class's own.
        simulated: whether a program may acknowledge its faults, for nobody can be hurt. The arm itself refuses a robot then.
    """

    name: str
    address: str | None
    simulated: bool


def parse_arm(arm: str) -> ArmName:
    """Raises `ValueError` that lists the names there are, where this is none; loads nothing."""
    where, simulated = arm.removesuffix(SIMULATED), arm.endswith(SIMULATED)
    name, colon, address = where.partition(":")
    if name not in ARMS:
        raise ValueError(f"arm {name!r} is unknown; choose one of {', '.join(sorted(ARMS))}")
    if colon and not address:
        raise ValueError(f"arm {arm!r} has an empty address; write {name}:ADDRESS, or {name} alone")
    if name == "twin" and simulated:
        raise ValueError(f"arm {arm!r}: the twin is in this process, and simulated anyway; leave {SIMULATED!r} out")
    return ArmName(name, address or None, simulated or name == "twin")


def make_arm(task: Task, arm: str = "twin", **options: Any) -> Arm:
    """The arm that is written so, not yet connected. Raises `ValueError` as `parse_arm` does, or where its driver is missing.

    Args:
        options: handed to the arm's class.
    """
    written = parse_arm(arm)
    module, name = ARMS[written.name]
    try:
        build = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"arm {written.name!r} needs the package {error.name!r}; install segue[{written.name}]"
        ) from error
    address = () if written.address is None else (written.address,)
    if arm.endswith(SIMULATED):
        options["simulated"] = True
    return build(task, *address, **options)


def make_env(
    task: Task | str,
    arm: Arm | str = "twin",
    success: Success | None = None,
    intervention: Intervention | None = None,
    truth: Success | None = None,
    realtime: bool = False,
    operator: Operator | None = None,
    cameras: Mapping[str, str] | None = None,
    **options: Any,
) -> RobotEnv:
    """The environment of a task on an arm; going from the twin to a robot is another `arm`.

    Args:
        task: a task or its name.
        arm: an arm, or how it is written, see `ArmName`.
        success: what counts as success; by default the task's geometry.
        intervention: a human's device.
        truth: a twin's own verdict, told in `info["truth"]` beside `success`.
        realtime: hold the task's control rate on the wall clock; otherwise as fast as the arm lets time pass.
        operator: a human's verdicts.
        cameras: beside the arm, in place of its own where it has any of that name: sources by name, see
            `robot_env.camera_sources`.
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
    if cameras:
        arm = ArmWithCameras(arm, check_cameras(cameras, task))
    pace = Pace(task.hz) if realtime else None
    return RobotEnv(task, arm, success, intervention, truth, pace, operator)
