"""Holds an arm still, and later stops it, when nobody tells it any longer where to go."""

import threading
import time
from collections.abc import Callable

HOLD_S = 0.5  # five control periods at 10 Hz: then the policy's process is stuck, or its host is
STOP_S = 5.0
CHECK_S = 0.05


class Watchdog:
    """Looks at the time since the last reference in a thread of its own.

    Args:
        lock: taken around everything here; whoever else touches the driver takes it too.
        hold: keep the arm where it is.
        stop: end the motion; never raises.
        hold_s, stop_s: seconds without a reference after which that is done, each once.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        lock: threading.RLock,  # type: ignore[valid-type]
        hold: Callable[[], None],
        stop: Callable[[str], None],
        hold_s: float = HOLD_S,
        stop_s: float = STOP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock, self._hold, self._stop, self._clock = lock, hold, stop, clock
        self._hold_s, self._stop_s = hold_s, stop_s
        self._fed_s: float | None = None  # None: there is nothing to watch
        self._held = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, unless it has begun."""
        if self._thread is None:
            self._closed.clear()
            self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)
            self._thread.start()

    def feed(self) -> None:
        """A reference has gone out."""
        with self._lock:
            self._fed_s, self._held = self._clock(), False

    def rest(self) -> None:
        """The arm has been stopped: there is nothing to watch until the next reference."""
        with self._lock:
            self._fed_s = None

    def check(self) -> None:
        """Do what is due."""
        with self._lock:
            if self._fed_s is None:
                return
            silent_s = self._clock() - self._fed_s
            if silent_s >= self._stop_s:
                self._fed_s = None
                self._stop(f"no reference came for {self._stop_s:g} s")
            elif silent_s >= self._hold_s and not self._held:
                self._held = True
                try:
                    self._hold()
                except Exception as error:  # a driver that cannot hold is stopped
                    self._fed_s = None
                    self._stop(f"no reference came for {self._hold_s:g} s, and holding failed: {error}")

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def _work(self) -> None:
        while not self._closed.wait(CHECK_S):
            self.check()
