"""The twin by its name: as published, or as it was fitted to an arm."""

from pathlib import Path
from typing import Any

from robot_env.tasks import Task
from sim.dynamics import PUBLISHED, read_dynamics
from sim.twin_arm import TwinArm


def fitted_twin(task: Task, file: str | None = None, **options: Any) -> TwinArm:
    """`TwinArm` with the values of a file of `segue twin fit`, where there is one. Raises `ValueError` for one that is none.

    Args:
        options: handed to `TwinArm`.
    """
    dynamics = PUBLISHED if file is None else read_dynamics(Path(file), task)
    return TwinArm(task, dynamics=dynamics, **options)
