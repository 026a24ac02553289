"""What every arm speaks: its state, a command to it, and the protocol between them and the environment.

Poses are `(7,)` arrays, metres and a unit quaternion in the order x y z w, of the tool centre point (TCP) in the
robot's base frame. Wrenches are `(6,)` arrays, newtons then newton-metres, of the environment on the tool, along the
tool's axes and about the hand's mount, zeroed ("tared") at every reset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Mode = Literal["compliant", "precise"]
"""Which gains the impedance controller uses: soft for contact, stiff for free-space moves such as resets."""


@dataclass(frozen=True)
class ArmState:
    """What was measured, once.

    Attributes:
        tcp_pose: `(7,)`, m and unit quaternion xyzw, base frame.
        tcp_velocity: `(6,)`, m/s and rad/s, base frame.
        wrench: `(6,)`, N and N·m, tool frame, tared at the last reset.
        joints: `(7,)`, rad.
        gripper: 0 (closed) to 1 (open).
        stamp_s: when it was measured, in the arm's own clock, s.
    """

    tcp_pose: np.ndarray
    tcp_velocity: np.ndarray
    wrench: np.ndarray
    joints: np.ndarray
    gripper: float
    stamp_s: float


MOUNT_TO_TCP_M = np.array([0.0, 0.0, 0.103])  # of Franka's hand, along the tool's axes


def about_mount(wrench: np.ndarray) -> np.ndarray:
    """A wrench `(6,)` about the TCP, as a Franka tells it, taken about the hand's mount, as the twin measures it.

    Both are along the tool's axes. A policy knows no others.
    """
    force, torque = wrench[:3], wrench[3:]
    return np.concatenate([force, torque + np.cross(MOUNT_TO_TCP_M, force)])


@dataclass(frozen=True)
class ArmCommand:
    """One reference for the impedance controller: a pose `(7,)`, a gripper opening 0 to 1, and whose gains to use."""

    tcp_pose: np.ndarray
    gripper: float = 0.0
    mode: Mode = "compliant"


@dataclass(frozen=True)
class Gains:
    """Cartesian impedance: the error is clipped per axis *before* the spring, so the largest force is stiffness x clip.

    Attributes:
        translational_stiffness, rotational_stiffness: N/m, N·m/rad.
        translational_damping, rotational_damping: N·s/m, N·m·s/rad.
        translational_clip_m: largest position error per base axis x, y, z, m.
        rotational_clip_rad: largest orientation error per axis, rad.
    """

    translational_stiffness: float
    rotational_stiffness: float
    translational_damping: float
    rotational_damping: float
    translational_clip_m: tuple[float, float, float]
    rotational_clip_rad: float


# SERL's published gains for peg insertion, and its "precision mode" for resets.
GAINS: Mapping[Mode, Gains] = {
    "compliant": Gains(2000.0, 150.0, 89.0, 7.0, (0.008, 0.003, 0.004), 0.02),
    "precise": Gains(3000.0, 300.0, 89.0, 9.0, (0.010, 0.010, 0.010), 0.05),
}


@dataclass(frozen=True, eq=False)
class Frame:
    """What a camera took, once.

    Attributes:
        picture: `(height, width, 3)` uint8 RGB.
        stamp_s: when it was taken, in the camera's own clock, s.
    """

    picture: np.ndarray
    stamp_s: float


class Camera(Protocol):
    """A source of pictures."""

    def read(self) -> Frame:
        """The newest frame, at once: the control loop waits for it. A driver that may wait goes into a `ThreadedCamera`.

        A stamp is newer than the last where the camera has taken another picture since; a reset may start the clock anew.
        Raises whatever the driver does where there is no picture.
        """
        ...


class Arm(Protocol):
    """A seven-joint arm under Cartesian impedance control. Used through `RobotEnv`, which checks every command."""

    def connect(self) -> None:
        """Open whatever the arm needs. Raises `ConnectionError` when it cannot, within a time-out.

        Called before the first reset, and again after an operator has acknowledged a fault: then, and never elsewhere,
        the arm recovers from its stop or its lost connection. Harmless on an arm that is open and well.
        """
        ...

    def read(self) -> ArmState:
        """The newest measured state, from `connect` on.

        Its stamp is newer after every `send`; a reset may start the clock anew.
        """
        ...

    def send(self, command: ArmCommand) -> ArmCommand:
        """Stream one reference and let one control period pass: simulated time in the twin.

        On hardware that is wall-clock time, and less than a period where the environment has a `Pace`, which waits for the
        rest. Returns what was really sent.
        """
        ...

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Follow `path (n, 7)`, already checked pose by pose, in precise mode, end at rest, and tare the wrench.

        The twin starts a new scene drawn from `rng` and places the arm at the end of the path at once.
        """
        ...

    def rest(self) -> None:
        """An episode is over, and no command comes for a while, on purpose: watchdogs rest until the next one.

        The arm stays where it is. Never raises: a connection that is lost shows at the next call.
        """
        ...

    def stop(self, reason: str) -> str | None:
        """Hold still now, whatever the arm was doing. Never raises. Returns why that may not have arrived, if it may not."""
        ...

    def close(self) -> None:
        """Give everything back. Safe to call twice."""
        ...

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """The arm's cameras by name; empty where it has none."""
        ...
