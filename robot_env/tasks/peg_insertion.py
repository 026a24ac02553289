"""Peg insertion: a square peg, fixed in the gripper, into a square hole; the task of WSRL's real-robot experiment."""

from dataclasses import dataclass
from math import pi
from typing import ClassVar

from robot_env.tasks import Scene, Task


@dataclass(frozen=True)
class PegScene(Scene):
    """The peg, the hole and how they touch.

    Attributes:
        peg_width_m: side of the square peg.
        hole_depth_m: depth of the hole; the target is the peg at its bottom.
        clearance_m: hole side minus peg side.
        chamfer_m: width of the bevel around the hole; 0 is a sharp rim.
        friction: sliding friction between peg and box.
        hidden_offset: half-ranges (m in x and y, rad about z) by which the hole misses its nominal pose, drawn anew
            each episode and shown to nobody: without it all trials share one hole and stand or fall together.
    """

    module: ClassVar[str] = "sim.peg_insertion"
    peg_width_m: float = 0.020
    hole_depth_m: float = 0.025
    clearance_m: float = 0.0004
    chamfer_m: float = 0.0
    friction: float = 0.3
    hidden_offset: tuple[float, float] = (0.0015, 0.03)


TASK = Task(
    name="peg_insertion",
    target=(0.5, 0.0, 0.12, pi, 0.0, 0.0),
    low=(-0.06, -0.06, -0.002, -0.05, -0.05, -pi / 6 - 0.1),
    high=(0.06, 0.06, 0.12, 0.05, 0.05, pi / 6 + 0.1),
    reset=(0.0, 0.0, 0.08, 0.0, 0.0, 0.0),
    reset_range=(0.05, 0.05, 0.02, 0.0, 0.0, pi / 6),
    max_steps=45,
    scene=PegScene(),
)
