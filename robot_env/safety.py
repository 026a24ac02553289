"""The safety layer: pure checks of every command and every reading. What to do about a violation is `RobotEnv`'s.

Positions are held to the box exactly and angles to `TOLERANCE`, in the offset coordinates of `robot_env.pose`. One
step's length is what one action can ask for, in any orientation of the tool: the corner of the action cube,
`sqrt(3) · scale` metres, and the largest rotation that three Euler angles of that norm compose to.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import acos, ceil, cos, dist, hypot, isfinite, sin, sqrt

import numpy as np

from robot_env.arm import ArmCommand, ArmState, Mode
from robot_env.faults import Violation
from robot_env.joints import complaint
from robot_env.pose import angle_between, normalize, offset_from_pose, pose_from_offset, pose_from_vector
from robot_env.tasks import Task

TOLERANCE = 1e-9  # m and rad: rounding only, a few hundred times what the pose maths loses
APPROACH_M = 0.5  # how far outside the box a reset may start: the home pose above a table-top task is within it
APPROACH_RAD = 1.0  # a tool turned further than this was not left there by this task
# Nothing a seven-joint arm measures lies beyond these; they are also the bounds of the observation space.
PLAUSIBLE = {"position": 10.0, "velocity": 100.0, "wrench": 1000.0}  # m; m/s, rad/s; N, N·m


def _clip(offset: Sequence[float], low: Sequence[float], high: Sequence[float]) -> list[float]:
    return [min(max(value, bottom), top) for value, bottom, top in zip(offset, low, high, strict=True)]


def _blend(a: Sequence[float], b: Sequence[float], fraction: float) -> list[float]:
    return [p + (q - p) * fraction for p, q in zip(a, b, strict=True)]


def _vector(name: str, value: object, size: int) -> list[float]:
    """`value` as finite floats. Raises `Violation` that names it."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (size,):
        raise Violation(f"{name} has shape {array.shape} instead of ({size},)")
    floats = array.tolist()
    if not all(map(isfinite, floats)):
        raise Violation(f"{name} {floats} is not finite")
    return floats


def _pose(name: str, value: object, tolerance: float) -> list[float]:
    """`value` as a pose whose quaternion is a unit one within `tolerance`. Raises `Violation` that names it."""
    pose = _vector(name, value, 7)
    length = hypot(*pose[3:])
    if abs(length - 1.0) > tolerance:
        raise Violation(f"{name} has a quaternion of length {length:.6g} instead of 1")
    return [*pose[:3], *normalize(pose[3:])]


class SafetyLayer:
    """Checks for one task. Nothing in here changes after construction. All of it raises `Violation` with the reason."""

    def __init__(self, task: Task) -> None:
        self.target = pose_from_vector(task.target).tolist()
        self.low, self.high = [float(v) for v in task.low], [float(v) for v in task.high]
        self.scale = (float(task.action_scale[0]), float(task.action_scale[1]))
        self.wrench_limit = dict(task.wrench_limit)
        half = 0.5 * self.scale[1]
        self.step_m = sqrt(3.0) * self.scale[0] + TOLERANCE
        self.step_rad = 2.0 * acos(cos(half) ** 3 - sin(half) ** 3) + TOLERANCE

    def offset(self, pose: Sequence[float]) -> tuple[float, ...]:
        """Offset `(6,)` of a pose `(7,)` from the target."""
        return offset_from_pose(pose, self.target)

    def pose(self, offset: Sequence[float]) -> np.ndarray:
        """The pose `(7,)` at an offset `(6,)` from the target."""
        return pose_from_offset(offset, self.target)

    def excess(self, pose: Sequence[float]) -> tuple[float, float]:
        """How far outside the box a pose lies, (m, rad), both 0 inside."""
        offset = self.offset(pose)
        inside = _clip(offset, self.low, self.high)
        return dist(offset[:3], inside[:3]), dist(offset[3:], inside[3:])

    def inside(self, pose: Sequence[float]) -> bool:
        """Whether a pose `(7,)` lies in the box."""
        return max(self.excess(pose)) <= TOLERANCE

    def within_one_step(self, a: Sequence[float], b: Sequence[float]) -> bool:
        """Whether one step's length leads from pose `a` to pose `b`."""
        return dist(a[:3], b[:3]) <= self.step_m and angle_between(a[3:7], b[3:7]) <= self.step_rad

    def check_state(self, state: ArmState, mode: Mode, after_s: float | None = None) -> list[float]:
        """Check a reading and return its pose `(7,)`, normalized.

        Args:
            state: what the arm measured.
            mode: whose wrench limit holds.
            after_s: stamp of a reading this one must be newer than.
        """
        pose = _pose("measured pose", state.tcp_pose, 1e-3)  # drivers read float32 matrices
        wrench = _vector("measured wrench", state.wrench, 6)
        velocity = _vector("measured velocity", state.tcp_velocity, 6)
        joints = _vector("measured joint angles", state.joints, 7)
        if not 0.0 <= state.gripper <= 1.0:
            raise Violation(f"measured gripper opening {state.gripper} is outside 0..1")
        for name, values in (("position", pose[:3]), ("velocity", velocity), ("wrench", wrench)):
            if max(map(abs, values)) > PLAUSIBLE[name]:
                raise Violation(f"measured {name} {values} is beyond what an arm can do ({PLAUSIBLE[name]:g})")
        if not isfinite(state.stamp_s) or (after_s is not None and state.stamp_s <= after_s):
            raise Violation(f"the arm's state is stale: stamp {state.stamp_s} s follows {after_s} s")
        force, torque = hypot(*wrench[:3]), hypot(*wrench[3:])
        if force > self.wrench_limit[mode][0] or torque > self.wrench_limit[mode][1]:
            limits = "{:g} N, {:g} N·m".format(*self.wrench_limit[mode])
            raise Violation(f"wrench {force:.1f} N, {torque:.2f} N·m is above the {mode} limit of {limits}")
        if (words := complaint(joints)) is not None:
            raise Violation(f"{words}; guide the arm to another configuration by hand")
        return pose

    def check_command(self, command: ArmCommand, measured: Sequence[float]) -> None:
        """Every command passes here before it is sent, and again as the arm says it sent it."""
        pose = _pose("commanded pose", command.tcp_pose, 1e-6)
        if command.mode not in self.wrench_limit:
            raise Violation(f"commanded mode {command.mode!r} has no wrench limit")
        if not 0.0 <= command.gripper <= 1.0:
            raise Violation(f"commanded gripper opening {command.gripper} is outside 0..1")
        if not self.inside(pose):
            raise Violation(f"commanded pose {pose} lies {self._far(pose)} outside the box")
        if not self.within_one_step(measured, pose):
            raise Violation(f"commanded pose {pose} is more than one step from the measured {list(measured)}")

    def nearest(self, measured: Sequence[float]) -> list[float]:
        """The offset `(6,)` in the box nearest to a measured pose, which must be one step away at most."""
        origin = _clip(self.offset(measured), self.low, self.high)
        if not self.within_one_step(measured, self.pose(origin).tolist()):
            raise Violation(f"the arm lies {self._far(measured)} outside the box, more than one step")
        return origin

    def limit(self, wanted: Sequence[float], measured: Sequence[float]) -> np.ndarray:
        """The pose `(7,)` nearest to what is wanted that may be commanded: in the box, one step away at most.

        Goes back along the straight line (in offsets, where the box is convex) from the wanted pose to the measured
        one, as far as one step's length demands. Where the measured pose is so far outside the box that one step
        does not lead back in, there is nothing safe to command.
        """
        if not all(map(isfinite, wanted)):
            raise Violation(f"wanted pose {list(wanted)} is not finite")
        offset = _clip(self.offset(wanted), self.low, self.high)
        pose = self.pose(offset)
        if self.within_one_step(measured, pose.tolist()):
            return pose
        origin = self.nearest(measured)
        near, far = 0.0, 1.0
        for _ in range(30):  # to a billionth of the way
            middle = 0.5 * (near + far)
            fits = self.within_one_step(measured, self.pose(_blend(origin, offset, middle)).tolist())
            near, far = (middle, far) if fits else (near, middle)
        return self.pose(_blend(origin, offset, near))

    def plan_reset(self, measured: Sequence[float], start: Sequence[float]) -> np.ndarray:
        """The path `(n, 7)` of a reset: straight up to the top of the box, then straight to the start pose.

        Straight means straight in offsets: inside the box every pose on the way is inside too, and no angle meets its
        wrap. From outside, the arm first rises to the level of the box's top where it is below, then goes to the
        nearest pose in the box; so it comes nearer with every pose.

        Args:
            measured: `(7,)`, where the arm is.
            start: `(6,)`, offset to end at.
        """
        metres, radians = self.excess(measured)
        if metres > APPROACH_M or radians > APPROACH_RAD:
            raise Violation(
                f"the arm lies {self._far(measured)} outside the box, too far for a reset "
                f"({APPROACH_M} m, {APPROACH_RAD} rad): guide it back by hand"
            )
        begin = list(self.offset(measured))
        lifted = [*begin[:2], max(begin[2], self.high[2]), *begin[3:]]
        corners = [begin, lifted, _clip(lifted, self.low, self.high), list(start)]
        offsets: list[list[float]] = []
        for a, b in pairwise(corners):
            turn = sum(abs(q - p) for p, q in zip(a[3:], b[3:], strict=True))  # never less than the angle between
            steps = ceil(max(dist(a[:3], b[:3]) / self.scale[0], turn / self.scale[1]))
            offsets += [_blend(a, b, i / steps) for i in range(1, steps)] + [b]
        return np.array([self.pose(offset) for offset in offsets])

    def check_path(self, path: np.ndarray, measured: Sequence[float]) -> None:
        """Every pose of a reset: finite, unit quaternion, one step from the last, in the box or nearing it."""
        last, outside = list(measured), self.excess(measured)
        for index, row in enumerate(np.asarray(path)):
            pose = _pose(f"reset pose {index}", row, 1e-6)
            excess = self.excess(pose)
            if excess[0] > outside[0] + TOLERANCE or excess[1] > outside[1] + TOLERANCE:
                raise Violation(f"reset pose {index} {pose} lies {self._far(pose)} outside the box")
            if not self.within_one_step(last, pose):
                raise Violation(f"reset pose {index} {pose} is more than one step from the one before, {last}")
            last, outside = pose, (min(outside[0], excess[0]), min(outside[1], excess[1]))
        if not len(path) or not self.inside(last):
            raise Violation("the reset path does not end in the box")

    def _far(self, pose: Sequence[float]) -> str:
        return "{:.4f} m, {:.4f} rad".format(*self.excess(pose))
