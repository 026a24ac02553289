"""What SERL's robot server says of its arm, read from JSON and put into this project's conventions.

What is assumed of a lab's server, as of SERL's own: `pose` is of the TCP, m and a quaternion x y z w; `force` and `torque` are
libfranka's `K_F_ext_hat_K` with the stiffness frame at the TCP, which counts what the *robot* does to its surroundings as
positive; `gripper_pos` is 0 closed to 1 open.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_env.arm import Gains, about_mount
from robot_env.pose import angle_between

REST_M_S, REST_RAD_S = 0.005, 0.02
AXES = ("x", "y", "z", "neg_x", "neg_y", "neg_z")
SHAPES = {"pose": (7,), "vel": (6,), "force": (3,), "torque": (3,), "q": (7,), "dq": (7,), "gripper_pos": ()}


@dataclass(frozen=True)
class ServerState:
    """One answer of `/getstate`.

    Attributes:
        pose, velocity: `(7,)`, `(6,)` of the TCP in the base frame.
        wrench: `(6,)` of the environment on the tool, about the hand's mount, not tared.
        joints: `(7,)` rad.
        gripper: 0 closed to 1 open.
        sensors: all measured numbers, to the last bit: real ones never repeat.
        stamp_s: when it was measured, where the server says so.
        fault: why the robot has stopped itself, where the server says so.
        twin: whether the server says that it simulates.
        lockstep: whether it says that its time stands still between references.
    """

    pose: np.ndarray
    velocity: np.ndarray
    wrench: np.ndarray
    joints: np.ndarray
    gripper: float
    sensors: bytes
    stamp_s: float | None
    fault: str | None
    twin: bool
    lockstep: bool

    @property
    def at_rest(self) -> bool:
        """Whether the tool stands still."""
        v = self.velocity
        return bool(np.linalg.norm(v[:3]) <= REST_M_S and np.linalg.norm(v[3:]) <= REST_RAD_S)

    def near(self, pose: np.ndarray, metres: float, radians: float) -> bool:
        """Whether the tool is no further from a pose `(7,)` than this."""
        off_m = float(np.linalg.norm(self.pose[:3] - pose[:3]))
        return off_m <= metres and angle_between(self.pose[3:].tolist(), pose[3:].tolist()) <= radians


def parse_state(answer: Any) -> ServerState:
    """Raises `ValueError`, one clause, where this is no state of an arm. What is not finite passes: safety refuses it."""
    if not isinstance(answer, Mapping):
        raise ValueError(f"its state is {type(answer).__name__} instead of an object")
    parts = {name: _array(answer, name, shape) for name, shape in SHAPES.items()}
    force, torque = -parts["force"], -parts["torque"]
    stamp_s, fault = answer.get("stamp_s"), answer.get("fault")
    if not (stamp_s is None or isinstance(stamp_s, int | float)):
        raise ValueError(f"its stamp_s is {stamp_s!r} instead of seconds")
    return ServerState(
        pose=parts["pose"],
        velocity=parts["vel"],
        wrench=about_mount(np.concatenate([force, torque])),
        joints=parts["q"],
        gripper=float(parts["gripper_pos"]),
        sensors=b"".join(parts[name].tobytes() for name in SHAPES if name not in ("vel", "gripper_pos")),
        stamp_s=stamp_s,
        fault=None if fault is None else str(fault),
        twin=answer.get("twin") is True,
        lockstep=answer.get("lockstep") is True,
    )


def _array(answer: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in answer:
        raise ValueError(f"its state lacks {name!r}")
    try:
        array = np.asarray(answer[name], dtype=np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"its {name!r} is no array of numbers") from None
    if array.shape != shape:
        raise ValueError(f"its {name!r} has shape {array.shape} instead of {shape}")
    return array


def parameters(gains: Gains) -> dict[str, float]:
    """A set of gains as the body of `/update_param`; the integral term is off."""
    plain = asdict(gains)
    clip_m, clip_rad = plain.pop("translational_clip_m"), plain.pop("rotational_clip_rad")
    clips = {f"translational_clip_{axis}": clip_m[i % 3] for i, axis in enumerate(AXES)}
    clips |= {f"rotational_clip_{axis}": clip_rad for axis in AXES}
    return {**plain, **clips, "translational_Ki": 0.0, "rotational_Ki": 0.0}
