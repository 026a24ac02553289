"""Cameras that fail as told, and arms that look through them."""

import queue
from collections.abc import Callable
from typing import Any

import numpy as np

from robot_env.arm import Camera, Frame

Fault = Callable[[Frame, Frame], Frame]
"""From the frame that would be given now and the last good one, to what is given."""


def _raise(now: Frame, last: Frame) -> Frame:
    raise OSError("device gone")


def _noisy_black(now: Frame, last: Frame) -> Frame:
    picture = np.abs(np.random.default_rng(0).normal(0.0, 3.0, now.picture.shape)).astype(np.uint8)
    picture[5, 5] = picture[90, 17] = 255  # hot pixels
    return Frame(picture, now.stamp_s)


FAULTS: dict[str, Fault] = {
    "freezes": lambda now, last: last,
    "runs back": lambda now, last: Frame(now.picture, last.stamp_s - 5.0),
    "repeats": lambda now, last: Frame(last.picture, now.stamp_s),
    "another size": lambda now, last: Frame(now.picture[:64, :64], now.stamp_s),
    "another type": lambda now, last: Frame(now.picture.astype(np.float32), now.stamp_s),
    "grey": lambda now, last: Frame(now.picture[:, :, 0], now.stamp_s),
    "black": lambda now, last: Frame(np.zeros_like(now.picture), now.stamp_s),
    "black with noise": _noisy_black,
    "white": lambda now, last: Frame(np.full_like(now.picture, 255), now.stamp_s),
    "no stamp": lambda now, last: Frame(now.picture, float("nan")),
    "raises": _raise,
}


class FaultyCamera:
    """Another camera, spoilt in a number of reads that `fail` has asked for."""

    def __init__(self, source: Camera) -> None:
        self._source, self._fault, self._left = source, FAULTS["raises"], 0
        self._last: Frame | None = None
        self.bad: list[np.ndarray] = []

    def fail(self, kind: str, reads: int) -> None:
        """The next `reads` reads fail."""
        self._fault, self._left = FAULTS[kind], reads

    def read(self) -> Frame:
        now = self._source.read()
        if self._left and self._last is not None:
            self._left -= 1
            frame = self._fault(now, self._last)
            self.bad.append(np.asarray(frame.picture))
            return frame
        self._last = Frame(now.picture.copy(), now.stamp_s)
        return now


class ShutterCamera:
    """A driver that waits in `read` until the next exposure, for ever where there is none."""

    def __init__(self) -> None:
        self._exposures: queue.Queue[Frame | Exception] = queue.Queue()
        self._count = 0

    def expose(self, picture: np.ndarray) -> float:
        """Gives a frame to who waits; returns its stamp."""
        self._count += 1
        self._exposures.put(Frame(picture, float(self._count)))
        return float(self._count)

    def break_down(self, error: Exception) -> None:
        """Raises to who waits."""
        self._exposures.put(error)

    def read(self) -> Frame:
        found = self._exposures.get()
        if isinstance(found, Exception):
            raise found
        return found


class Through:
    """An arm that sees through other cameras.

    Args:
        after_send: called when a command has been carried out, as the time in which a real camera goes on.
    """

    def __init__(self, arm: Any, cameras: dict[str, Camera], after_send: Callable[[], None] = lambda: None) -> None:
        self.arm, self.cameras, self._after_send = arm, cameras, after_send
        self.read, self.stop, self.connect, self.close, self.reset = (
            arm.read,
            arm.stop,
            arm.connect,
            arm.close,
            arm.reset,
        )
        self.commands: list[tuple[np.ndarray, np.ndarray]] = []  # measured, commanded

    def send(self, command):
        self.commands.append((self.arm.read().tcp_pose, command.tcp_pose))
        sent = self.arm.send(command)
        self._after_send()
        return sent
