"""Joint limits and the elbow: what the box around the tool does not see, since seven joints leave the elbow free."""

from collections.abc import Sequence
from math import cos, pi, sin

HOME_RAD = (0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4)  # Franka's ready pose
# The narrower of the limits that Franka publishes for the Panda and for the FR3: what was rehearsed on one arm fits the other.
LOWER_RAD = (-2.7437, -1.7628, -2.8973, -3.0421, -2.8065, 0.5445, -2.8973)
UPPER_RAD = (2.7437, 1.7628, 2.8973, -0.1518, 2.8065, 3.7525, 2.8973)
# At a limit the controller raises a reflex. At 10 Hz and the 1 rad/s of a fast reset it comes 0.1 rad nearer in a step.
MARGIN_RAD = 0.1
ELBOW_M = 0.25  # above the base plane; the elbow's housing reaches 0.1 m around its middle

_SHOULDER_M, _UPPER_ARM_M, _ELBOW_OFFSET_M = 0.333, 0.316, 0.0825  # d1, d3 and a4 of Franka's published kinematics


def margins(joints: Sequence[float]) -> list[float]:
    """`(7,)` rad from each joint to the nearer of its limits; negative beyond it."""
    return [min(q - low, high - q) for q, low, high in zip(joints, LOWER_RAD, UPPER_RAD, strict=True)]


def elbow_height(joints: Sequence[float]) -> float:
    """Metres from the base plane up to the middle of joint 4, the elbow."""
    return _SHOULDER_M + _UPPER_ARM_M * cos(joints[1]) - _ELBOW_OFFSET_M * cos(joints[2]) * sin(joints[1])


def complaint(joints: Sequence[float]) -> str | None:
    """What is wrong with a configuration `(7,)`, one clause; None where nothing is."""
    for number, (q, margin) in enumerate(zip(joints, margins(joints), strict=True), 1):
        if margin < MARGIN_RAD:
            low, high = LOWER_RAD[number - 1], UPPER_RAD[number - 1]
            return f"joint {number} at {q:.3f} rad is within {MARGIN_RAD:g} rad of its limits {low:g}..{high:g}"
    if (height := elbow_height(joints)) < ELBOW_M:
        return f"the elbow is {height:.3f} m above the base plane, lower than {ELBOW_M:g} m"
    return None
