"""How an arm moves beside the published twin: its gains, friction and latency, and the file that `segue twin fit` writes."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from robot_env.arm import Gains
from robot_env.tasks import Task

FORMAT = 1
AGAIN = "give the twin.json of `segue twin fit`"
# What a value may be: a controller five times off is another one, and a Panda's joints stick with about 1 N·m.
RANGES = {
    "translational_stiffness": (0.2, 5.0),
    "rotational_stiffness": (0.2, 5.0),
    "translational_damping": (0.2, 5.0),
    "rotational_damping": (0.2, 5.0),
    "dry_friction_nm": (0.0, 5.0),
    "latency_s": (0.0, 0.1),
}


@dataclass(frozen=True)
class Dynamics:
    """What differs from the published arm; as it stands, nothing.

    Attributes:
        translational_stiffness, rotational_stiffness, translational_damping, rotational_damping: factors on the gains of
            `robot_env.arm.GAINS`, whose clips stay as they are.
        dry_friction_nm: of each of the seven joints, N·m.
        latency_s: from a reading to the moment at which the command that follows it reaches the controller, s.
    """

    translational_stiffness: float = 1.0
    rotational_stiffness: float = 1.0
    translational_damping: float = 1.0
    rotational_damping: float = 1.0
    dry_friction_nm: float = 0.0
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"twin: {name} is {value}, outside {low:g}..{high:g}; fit it again")

    def scaled(self, gains: Gains) -> Gains:
        """The gains that an arm has where these were asked for."""
        names = [f.name for f in fields(self) if f.name in Gains.__dataclass_fields__]
        return replace(gains, **{name: getattr(gains, name) * getattr(self, name) for name in names})


PUBLISHED = Dynamics()


def file_of(dynamics: Dynamics, task: Task, about: dict[str, Any]) -> dict[str, Any]:
    """What `read_dynamics` takes, as JSON; `about` is for people."""
    return {"format": FORMAT, "scene": task.scene.module, "values": asdict(dynamics), **about}


def read_dynamics(path: Path, task: Task) -> Dynamics:
    """The values of a fit. Raises `ValueError`, one sentence, where they cannot be read, or are not of the task's scene."""
    try:
        plain = json.loads(path.read_bytes())
        form, scene, values = plain["format"], plain["scene"], plain["values"]
        if {type(value) for value in values.values()} - {int, float} or values.keys() != RANGES.keys():
            raise ValueError(f"its values are not {', '.join(RANGES)}")
    except OSError as error:
        raise ValueError(f"twin {path}: it cannot be read ({error.strerror}); {AGAIN}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"twin {path}: it is damaged ({type(error).__name__}: {error}); {AGAIN}") from error
    if form != FORMAT:
        raise ValueError(f"twin {path}: its format is {form!r}, this program reads {FORMAT}; fit it again")
    if scene != task.scene.module:
        raise ValueError(
            f"twin {path}: it is of scene {scene!r}, task {task.name!r} has {task.scene.module!r}; fit one of that task"
        )
    try:
        found = Dynamics(**values)
    except ValueError as error:
        raise ValueError(f"twin {path}: {str(error).removeprefix('twin: ')}") from error
    if found.latency_s > 1.0 / task.hz:
        raise ValueError(
            f"twin {path}: its latency_s {found.latency_s:g} is longer than task {task.name!r}'s control period of"
            f" {1.0 / task.hz:g} s; fit one at that rate"
        )
    return found
