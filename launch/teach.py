"""`segue robot teach-box`: what a hand that guides the arm shows of a task. The arm is read, and never sent anything."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Group
from rich.text import Text

from launch.show import columns
from robot_env.arm import Arm, ArmState
from robot_env.faults import ArmFault, Violation
from robot_env.joints import elbow_height, margins
from robot_env.pose import angle_between, euler_from_quat, pose_from_vector
from robot_env.preflight import AXES, LIMITS
from robot_env.safety import SafetyLayer
from robot_env.tasks import Task

HELP = "t or Enter: here is the target; n: the box begins anew; q: write the task; Ctrl-C: write nothing"
LOOK_S = 0.05
ATTEMPTS = 30  # a second apart, to join an arm that has not answered
TARGET_DECIMALS = 4  # 0.1 mm and 0.1 mrad, about what a Franka repeats
TOLD_RAD = 0.001  # several times what three rounded angles come to
ROUNDING = 0.002  # m and rad: more than the box is rounded outward by, so that it stays within what preflight takes


class Lesson:
    """What has been shown so far: a target, and every pose that the tool visited since the first one.

    Poses are kept in the base frame, for another target changes all offsets. One that is near a limit of preflight, where
    Euler angles wrap, does not count.

    Args:
        like: the task whose limits of a reading hold, but for that of the wrench: a hand may push.
        margin: (m, rad) by which the box will be wider than what was shown.

    Attributes:
        target: `(6,)` as in `Task.target`; None until it is shown.
        now: `(7,)`, the present pose; None where its reading does not count.
        poses: `(7,)` each, those that count.
        low, high: `(6,)` corners of a box around the target and them, offsets from the target, without the margin.
        note: why the present pose does not count, or an empty string.
        done: what the last key did.
    """

    def __init__(self, like: Task, margin: tuple[float, float]) -> None:
        self._like, self._safety = like, SafetyLayer(like)
        self._largest = [limit - margin[i > 2] - ROUNDING for i, limit in enumerate(LIMITS)]
        self.target: tuple[float, ...] | None = None
        self.now: list[float] | None = None
        self.note, self.done = "", "no target yet: the box begins there"
        self.poses: list[list[float]] = []
        self.low, self.high = [0.0] * 6, [0.0] * 6

    def see(self, state: ArmState) -> None:
        """Takes a reading in, unless it is unsound, or the arm is near a joint's limit, or its elbow low."""
        try:
            self.now = self._safety.check_state(replace(state, wrench=np.zeros(6)), "precise")
        except Violation as error:
            self.now, self.note = None, str(error)
        else:
            self.note = self._take(self.now)

    def aim(self) -> None:
        """The present pose is the target from now on, where it counts; the box is told from there."""
        if self.now is None:
            self.done = f"that is no target: {self.note}"
            return
        vector = [*self.now[:3], *euler_from_quat(self.now[3:])]
        target = tuple(round(value, TARGET_DECIMALS) + 0.0 for value in vector)
        if angle_between(pose_from_vector(target)[3:].tolist(), self.now[3:]) > TOLD_RAD:
            self.done = (
                "that is no target: at a pitch of pi/2 Euler angles do not tell its pose; turn the tool a little"
            )
            return
        self.target = target
        self._safety = SafetyLayer(replace(self._like, target=self.target))
        poses = self.poses if self.poses and self.poses[-1] is self.now else [*self.poses, self.now]
        self.forget()
        far = sum(bool(self._take(pose)) for pose in poses)
        self.done = "the target is here" + (
            f"; {far} poses are too far from it and do not count any more" if far else ""
        )

    def forget(self) -> None:
        """The box begins anew, at the target."""
        self.poses, self.low, self.high = [], [0.0] * 6, [0.0] * 6
        self.done = "the box begins anew"

    @property
    def offset(self) -> tuple[float, ...] | None:
        """`(6,)` of the present pose; None without it, or without a target."""
        return None if self.now is None or self.target is None else self._safety.offset(self.now)

    def _take(self, pose: list[float]) -> str:
        """Counts a pose, or says why not; without a target none counts yet."""
        if self.target is None:
            return ""
        offset = self._safety.offset(pose)
        for axis, value, largest in zip(AXES, offset, self._largest, strict=True):
            if abs(value) > largest:
                return f"{axis} {value:.3f} is more than {largest:.3f} from the target"
        self.low = list(map(min, self.low, offset))
        self.high = list(map(max, self.high, offset))
        self.poses.append(pose)
        return ""


def readings(
    arm: Arm, tell: Callable[[str], None] = lambda text: None, sleep: Callable[[float], None] = time.sleep
) -> Iterator[ArmState]:
    """An arm's states, twenty times a second, without end. One that does not answer is joined again: a lesson is long.

    Args:
        tell: says so.

    Raises:
        ArmFault: the arm says that it was stopped.
        ConnectionError: it could not be joined again.
    """
    while True:
        try:
            yield arm.read()
        except Violation as error:
            raise ArmFault(f"{error}; look at it, then `segue robot home --acknowledge NAME`") from error
        except (ConnectionError, TimeoutError) as error:
            tell(f"{error}; take your hands off the arm until it is read again")
            _join(arm, sleep)
        sleep(LOOK_S)


def _join(arm: Arm, sleep: Callable[[float], None]) -> None:
    for left in reversed(range(ATTEMPTS)):
        try:
            arm.connect()
        except (ConnectionError, TimeoutError):
            if not left:
                raise
            sleep(1.0)
        else:
            return


def teach(
    states: Iterable[ArmState],
    presses: Callable[[], Sequence[str]],
    lesson: Lesson,
    show: Callable[[ArmState], None] = lambda state: None,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Takes readings into the lesson, and does what keys say, until `q` finishes it.

    Args:
        finish: raises `ValueError` where the lesson is not enough yet: it says so, and goes on.
        presses: gives the keys that were pressed since it was called last.
        show: hears of each reading once it was taken in.
    """
    does = {"t": lesson.aim, "enter": lesson.aim, "n": lesson.forget}
    for state in states:
        lesson.see(state)
        for key in presses():
            if key == "q":
                try:
                    finish()
                except ValueError as error:
                    lesson.done = str(error)
                else:
                    return
            elif key in does:
                does[key]()
        show(state)


def picture(lesson: Lesson, state: ArmState) -> Group:
    """What the human sees: where the tool is, the box so far, and how the arm stands."""
    offset = lesson.offset or [float("nan")] * 6
    rows = {
        f"{axis} {'m' if i < 3 else 'rad'}": {
            "from the target": f"{offset[i]:.4f}",
            "box from": f"{lesson.low[i]:.4f}",
            "to": f"{lesson.high[i]:.4f}",
        }
        for i, axis in enumerate(AXES)
    }
    joints = state.joints.tolist()
    left = margins(joints)
    nearest = min(range(7), key=left.__getitem__)
    arm = f"joint {nearest + 1} is {left[nearest]:.3f} rad from its limit, the elbow {elbow_height(joints):.3f} m up"
    counted = f"{len(lesson.poses)} poses count; {lesson.done}"
    return Group(
        columns(rows), Text(f"{arm}\n{counted}\n"), Text(lesson.note and f"NOT TAKEN: {lesson.note}", "bold red")
    )
