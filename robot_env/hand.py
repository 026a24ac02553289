"""From what a human's device shows to an action of the policy: dead zone, scale, axes, and the frame.

The human moves the tool as they see it, along the axes of the room: forward, to their left, up, and turns about the same three.
Standing behind the arm's base and looking along its x axis, these are the base frame's axes; from elsewhere, that frame turned
about z. An action is in the end-effector frame (`robot_env.pose.displace`), so what the hand asks for is turned by the
measured pose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, hypot, sin
from typing import Protocol

import numpy as np

from robot_env.pose import quat_inverse, rotate

LARGEST_FACING = 7.0  # rad: beyond two pi, degrees were meant


@dataclass(frozen=True, eq=False)
class Reading:
    """What a device shows, once.

    Attributes:
        axes: by name, -1 to 1; 0 at rest.
        held: names of the buttons that are down.
        stamp_s: when it was read, in the device's clock, s.
    """

    axes: Mapping[str, float]
    held: frozenset[str]
    stamp_s: float = 0.0


class Device(Protocol):
    """What a human holds."""

    def read(self) -> Reading:
        """The newest reading, at once. Raises `ConnectionError` where the device is lost."""
        ...

    def presses(self) -> list[str]:
        """Names of the buttons that went down since the last call, in order. Raises `ConnectionError` as `read` does."""
        ...


@dataclass(frozen=True)
class HandMapping:
    """How a device is laid out, and how strongly it acts.

    Attributes:
        axes: which of the device's axes moves the tool forward, to the left and up, and turns it about these three by the right
            hand's rule; six names, with a minus in front where the device counts the other way, empty for none.
        close, open: buttons of the gripper; without a gripper they do what `take_over` does.
        take_over: buttons that take the arm from the policy as long as they are held, and hold it still by themselves.
        dead_zone: below this, an axis is at rest; from there on it counts from 0 to 1.
        scale: (moves, turns) of an axis at its end, in units of an action.
        threshold: the hand acts where its action's norm exceeds this; SERL's number.
    """

    axes: tuple[str, str, str, str, str, str]
    close: str = ""
    open: str = ""
    take_over: tuple[str, ...] = ()
    dead_zone: float = 0.05
    scale: tuple[float, float] = (1.0, 1.0)
    threshold: float = 0.001

    def action(self, reading: Reading, pose: Sequence[float], facing_rad: float = 0.0) -> np.ndarray:
        """The action `(6,)` that a reading asks for, each number in [-1, 1]; what is longer is shortened, not bent.

        Args:
            pose: `(7,)` of the tool, base frame.
            facing_rad: which way the human looks, about the base's z axis; 0 is along its x axis.
        """
        seen = [self._value(reading, name) for name in self.axes]
        back, c, s = quat_inverse(pose[3:7]), cos(facing_rad), sin(facing_rad)
        halves = []
        for (x, y, z), scale in zip((seen[:3], seen[3:]), self.scale, strict=True):
            half = np.array(rotate(back, (c * x - s * y, s * x + c * y, z))) * scale
            halves.append(half / max(1.0, float(np.abs(half).max())))
        return np.concatenate(halves)

    def _value(self, reading: Reading, name: str) -> float:
        if not name:
            return 0.0
        value = min(max(reading.axes.get(name.removeprefix("-"), 0.0), -1.0), 1.0)
        size = max(0.0, (abs(value) - self.dead_zone) / (1.0 - self.dead_zone))
        return -size if (value < 0.0) != name.startswith("-") else size


class Hand:
    """A device as an `Intervention`.

    Args:
        device: what is held.
        mapping: how it is laid out.
        gripper: whether the task's actions have a seventh number: -1 closes, 1 opens, 0 leaves it.
        facing_rad: which way the human looks, see `HandMapping.action`.
    """

    def __init__(self, device: Device, mapping: HandMapping, gripper: bool = False, facing_rad: float = 0.0) -> None:
        if not abs(facing_rad) <= LARGEST_FACING:
            raise ValueError(f"hand: facing {facing_rad} rad is more than a whole turn; give an angle within one")
        self.device, self._mapping, self._gripper, self._facing_rad = device, mapping, gripper, facing_rad

    def action(self, obs: Mapping[str, np.ndarray], pose: Sequence[float]) -> np.ndarray | None:
        """See `Intervention`: it acts where the device is deflected, or a button of its own is held."""
        mapping, reading = self._mapping, self.device.read()
        wish = mapping.action(reading, pose, self._facing_rad)
        grip = float(mapping.open in reading.held) - float(mapping.close in reading.held)
        held = reading.held & {mapping.close, mapping.open, *mapping.take_over}
        if not held and hypot(*wish) <= mapping.threshold:
            return None
        return np.array([*wish, grip]) if self._gripper else wish
