"""Domain randomisation: what a twin draws anew at every reset. Off by default."""

from dataclasses import dataclass, fields

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.tasks import Task

_NOMINAL = ("geom_friction", "body_mass", "body_inertia", "body_gravcomp", "cam_pos", "cam_quat", "light_diffuse")


@dataclass(frozen=True)
class Randomization:
    """Half-ranges of uniform draws around the nominal scene; 0 leaves the scene as it is.

    Attributes:
        hole_xy_m: hole position in x and y, on top of the task's own hidden offset.
        hole_yaw_rad: hole yaw, likewise.
        friction: relative change of the peg's friction, below 1.
        mass: relative change of the hand's and the peg's mass, below 1; gravity compensation goes on believing the
            nominal mass, as a robot with a wrongly configured load does.
        latency_s: largest delay (the draw is from 0 to this) until a command reaches the controller.
        lighting: relative change of the lamp's brightness, below 1.
        camera_m: wrist camera position per axis.
        camera_rad: wrist camera direction per axis.
    """

    hole_xy_m: float = 0.0
    hole_yaw_rad: float = 0.0
    friction: float = 0.0
    mass: float = 0.0
    latency_s: float = 0.0
    lighting: float = 0.0
    camera_m: float = 0.0
    camera_rad: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value, limit = getattr(self, f.name), 1.0 if f.name in ("friction", "mass", "lighting") else np.inf
            if not (np.isfinite(value) and 0.0 <= value < limit):
                raise ValueError(
                    f"Randomization.{f.name} is {value}; give a half-range of at least 0"
                    + (" and below 1" if limit == 1.0 else "")
                )


OFF = Randomization()


def hidden_offset(task: Task, rng: np.random.Generator) -> np.ndarray:
    """Where a task hides its hole, `(3,)` from the target: x m and y m along the base axes, yaw rad about base z."""
    xy_m, yaw_rad = task.scene.hidden_offset
    return rng.uniform(-1.0, 1.0, 3) * [xy_m, xy_m, yaw_rad]


def place_hole(data: mujoco.MjData, hole: int, task: Task, offset: np.ndarray) -> None:
    """Move the hole, mocap body number `hole`, from the target by `offset (3,)`, as `hidden_offset` gives it."""
    target = np.array(task.target)
    turned = Rotation.from_euler("z", offset[2]) * Rotation.from_euler("xyz", target[3:])
    data.mocap_pos[hole] = target[:3] + np.array([offset[0], offset[1], 0.0])
    data.mocap_quat[hole] = turned.as_quat(scalar_first=True)


class Randomizer:
    """Applies a `Randomization` to a compiled model, each time starting from the model's nominal values."""

    def __init__(self, model: mujoco.MjModel, ranges: Randomization) -> None:
        self.ranges = ranges
        self._model = model
        self._scratch = mujoco.MjData(model)
        self._nominal = {name: getattr(model, name).copy() for name in _NOMINAL}

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Change the model; returns the hole's extra offset `(3,)` (x m, y m, yaw rad) and the latency in s.

        Every field is drawn whatever its range, so switching one on leaves the others' draws as they were.
        """
        model, r = self._model, self.ranges
        for name, value in self._nominal.items():
            getattr(model, name)[:] = value
        hole = rng.uniform(-1.0, 1.0, 3) * [r.hole_xy_m, r.hole_xy_m, r.hole_yaw_rad]
        friction, mass, light = 1.0 + rng.uniform(-1.0, 1.0, 3) * [r.friction, r.mass, r.lighting]
        latency_s = rng.uniform(0.0, 1.0) * r.latency_s
        shift, turn = rng.uniform(-1.0, 1.0, (2, 2, 3)) * np.array([r.camera_m, r.camera_rad])[:, None, None]
        model.geom_friction[model.geom("peg").id, 0] *= friction
        model.light_diffuse[:] *= light
        for i, name in enumerate(("wrist_1", "wrist_2")):
            camera = model.camera(name).id
            model.cam_pos[camera] += shift[i]
            mujoco.mju_quatIntegrate(model.cam_quat[camera], turn[i], 1.0)
        if r.mass:
            for name in ("hand", "peg"):
                body = model.body(name).id
                model.body_mass[body] *= mass
                model.body_inertia[body] *= mass
                model.body_gravcomp[body] /= mass
            mujoco.mj_setConst(model, self._scratch)
        return hole, latency_s
