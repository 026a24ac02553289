"""A human's device, read in a thread of its own: the newest reading at once, and its loss within a deadline."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from robot_env.hand import Reading

POLL_S = 0.02  # the longest a driver may wait for news: five times in a control period of 10 Hz
AGAIN_S = 0.5  # after a loss, until the device is looked for again
DEADLINE_S = 0.3  # without a sign of life from the thread that reads; three control periods at 10 Hz
KEPT = 64  # presses that nobody has asked for yet

News = tuple[Mapping[str, float], frozenset[str]]
"""Axes by name, -1 to 1, and the names of the buttons that are down."""


class Driver(Protocol):
    """Speaks to one kind of device. Only one thread at a time calls it."""

    def open(self) -> None:
        """Opens the device anew. Raises `ConnectionError` that says what to do where it cannot."""
        ...

    def wait(self, timeout_s: float) -> News:
        """What the device shows once it has news, or as it was after the time-out. Raises `OSError` where it is gone.

        No press is left out: a button that is down and up again was down in some news.
        """
        ...

    def close(self) -> None:
        """Gives the device back. Safe to call twice."""
        ...


class ThreadedDevice:
    """The newest reading of a device, whatever its driver does.

    A device that is lost is looked for again; until it is back, `read` raises.

    Args:
        name: for messages.
        driver: of the device; after `open`, only this class's thread calls it.
        clock: seconds, never going back.
        deadline_s: how long the driver may be silent before the device counts as lost.
    """

    def __init__(
        self, name: str, driver: Driver, clock: Callable[[], float] = time.monotonic, deadline_s: float = DEADLINE_S
    ) -> None:
        self._name, self._driver, self._clock, self._deadline_s = name, driver, clock, deadline_s
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._newest = Reading({}, frozenset())
        self._lost: str | None = "it is not open"
        self._presses: list[str] = []
        self._thread = threading.Thread(target=self._work, name=f"device {name}", daemon=True)

    def open(self) -> None:
        """Opens the device and begins to read it. Raises `ConnectionError` where it cannot."""
        self._driver.open()
        self._newest, self._lost = Reading({}, frozenset(), self._clock()), None
        self._thread.start()

    def read(self) -> Reading:
        """The newest reading, at once.

        Raises:
            ConnectionError: the device is gone, or has not answered for `deadline_s`.
        """
        with self._lock:
            newest, lost = self._newest, self._lost
        silent_s = self._clock() - newest.stamp_s
        if lost is None and silent_s > self._deadline_s:
            lost = f"it has not answered for {silent_s:.2f} s"
        if lost is not None:
            raise ConnectionError(f"{self._name} is lost ({lost}); plug it in again and let go of it")
        return newest

    def presses(self) -> list[str]:
        """Names of the buttons that went down since the last call, in order. Raises `ConnectionError` as `read` does."""
        self.read()
        with self._lock:
            pressed, self._presses = self._presses, []
        return pressed

    def close(self, timeout_s: float = 1.0) -> None:
        """Ends the thread, which gives the device back; one whose driver waits for ever is left behind. Safe to call twice."""
        self._closed.set()
        self._lose("it is closed")
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            while not self._closed.is_set():
                try:
                    self._take(*self._driver.wait(POLL_S))
                except (OSError, ValueError) as error:  # ValueError: what some libraries raise on a closed handle
                    self._lose(f"{type(error).__name__}: {error}")
                    self._find_again()
        finally:
            self._driver.close()

    def _take(self, axes: Mapping[str, float], held: frozenset[str]) -> None:
        with self._lock:
            self._presses = (self._presses + sorted(held - self._newest.held))[-KEPT:]
            self._newest = Reading(dict(axes), held, self._clock())

    def _lose(self, why: str) -> None:
        with self._lock:
            self._lost, self._presses = why, []

    def _find_again(self) -> None:
        """Opens the device again once it is there."""
        self._driver.close()
        while not self._closed.wait(AGAIN_S):
            try:
                self._driver.open()
            except OSError as error:
                self._lose(str(error))
                continue
            with self._lock:
                self._lost, self._newest = None, Reading({}, frozenset(), self._clock())
            return
