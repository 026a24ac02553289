"""Watches cameras, so that the policy is never shown a picture that is known to be bad.

| what a camera does | noticed | how |
|---|---|---|
| raises, or gives no frame | at once | |
| another size or type | at once | |
| black, white, or all of one colour | at once | blocks of 8x8 pixels differ by 6 of 255 at most |
| freezes, or its reader blocks | at the second control step without a newer stamp | one missed frame is let pass |
| repeats: new stamps, old pictures | once the tool has moved by 1 mm or 0.01 rad | identical to one of the last 8 |

An arm at rest gives identical pictures in a twin, which has no noise; so a repeat is one only where the tool has moved since
that picture was first seen. In the peg's twin identical pictures lie 0.03 mm and 0.0002 rad apart at most.

After a failure a camera is believed again from its second good frame in a row on.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import dist, isfinite

import numpy as np

from robot_env.arm import Arm, Frame
from robot_env.faults import Violation
from robot_env.observation import IMAGE_SHAPE
from robot_env.pose import angle_between
from robot_env.tasks import Task

HOLD_STEPS = 20  # control periods, 2 s at 10 Hz: a camera that is plugged in again or re-exposes is back by then
FROZEN_STEPS = 2
GOOD_STEPS = 2
MOVED_M, MOVED_RAD = 0.001, 0.01
REMEMBERED = 8  # pictures: a driver's ring of buffers that is played back in a loop is no longer
FLAT = 6.0  # of 255; the twin's pictures have 150
BLOCK = 8  # pixels: a dark sensor's noise and its hot pixels average out


class CameraWatch:
    """Takes the pictures of a task's cameras and checks them."""

    def __init__(self, task: Task) -> None:
        self._patience = HOLD_STEPS if task.camera_fault == "hold" else 0
        self._seen = {name: _Seen() for name in task.cameras}

    def begin(self) -> None:
        """An episode begins: stamps may start anew, and what was wrong before has been looked at."""
        for seen in self._seen.values():
            seen.stamp_s, seen.frozen, seen.good = None, 0, GOOD_STEPS

    def look(self, arm: Arm, pose: Sequence[float], held: int) -> dict[str, np.ndarray] | None:
        """A copy `(128, 128, 3)` uint8 of what each camera sees; None where the arm is to be held for a period.

        Args:
            pose: `(7,)` of the tool, as measured.
            held: control periods for which the arm has been held by now.

        Raises:
            Violation: a picture is not to be believed, and the arm is to be stopped; it names every such camera and says why.
        """
        pictures, faults = {}, []
        for name, seen in self._seen.items():
            try:
                frame = take_frame(arm, name)
                seen.check(frame, pose)
            except Violation as fault:
                seen.good = 0
                faults.append(f"camera {name!r} {fault}")
                continue
            pictures[name] = frame.picture.copy()
            seen.good = min(seen.good + 1, GOOD_STEPS)
            if seen.good < GOOD_STEPS:
                faults.append(f"camera {name!r} has only just begun to work again")
        if not faults:
            return pictures
        if held < self._patience:
            return None
        raise Violation("; ".join(faults) + (f"; the arm was held for {held} control periods" if held else ""))


@dataclass
class _Seen:
    """What one camera has given.

    Attributes:
        stamp_s: the last frame's.
        frozen: control steps since a newer one.
        good: frames since the last failure, counted up to `GOOD_STEPS`.
        pictures: digests of the last different pictures, each with where the tool was when it was first seen.
    """

    stamp_s: float | None = None
    frozen: int = 0
    good: int = GOOD_STEPS
    pictures: deque[tuple[bytes, list[float]]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def check(self, frame: Frame, pose: Sequence[float]) -> None:
        """Raises `Violation` that says what is wrong with a frame."""
        is_new = self.stamp_s is None or frame.stamp_s > self.stamp_s
        self.frozen, self.stamp_s = 0 if is_new else self.frozen + 1, frame.stamp_s
        if self.frozen >= (FROZEN_STEPS if self.good >= GOOD_STEPS else 1):
            raise Violation(f"is frozen: no frame newer than {frame.stamp_s:.3f} s in {self.frozen} control steps")
        if contrast(frame.picture) <= FLAT:
            mean = frame.picture.mean()
            raise Violation(f"shows nothing: its picture is of one colour, of mean brightness {mean:.0f} of 255")
        if is_new:
            self._check_repeat(frame.picture, pose)

    def _check_repeat(self, picture: np.ndarray, pose: Sequence[float]) -> None:
        digest = blake2b(picture.tobytes(), digest_size=16).digest()
        at = next((at for known, at in self.pictures if known == digest), None)
        if at is None:
            self.pictures.append((digest, list(pose)))
            return
        moved_m, moved_rad = dist(at[:3], pose[:3]), angle_between(at[3:7], pose[3:7])
        if moved_m > MOVED_M or moved_rad > MOVED_RAD:
            moved = f"the tool has moved by {1000 * moved_m:.1f} mm and {moved_rad:.3f} rad"
            raise Violation(f"repeats itself: {moved} since it first gave this very picture")


def take_frame(arm: Arm, name: str) -> Frame:
    """What a camera gives, of the right size and type. Whatever it raises becomes a `Violation`."""
    try:
        frame = arm.cameras[name].read()
    except Exception as error:
        raise Violation(f"gave no picture: {error!r}") from error
    if not isinstance(frame, Frame):
        raise Violation(f"gave {type(frame).__name__} instead of a frame")
    picture = frame.picture
    if not isinstance(picture, np.ndarray) or picture.shape != IMAGE_SHAPE or picture.dtype != np.uint8:
        found = (getattr(picture, "shape", None), getattr(picture, "dtype", type(picture).__name__))
        raise Violation(f"gave {found} instead of a {IMAGE_SHAPE} uint8 picture")
    if not isfinite(frame.stamp_s):
        raise Violation(f"gave a frame of {frame.stamp_s} s; its stamp is no time")
    return frame


def contrast(picture: np.ndarray) -> float:
    """How much the means of a picture's blocks differ, in the colour where they differ most, 0 to 255."""
    height, width, colours = picture.shape
    rows, columns = height // BLOCK, width // BLOCK
    blocks = picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK, colours)
    means = blocks.mean(axis=(1, 3), dtype=np.float32).reshape(-1, colours)
    return float((means.max(axis=0) - means.min(axis=0)).max())
