"""The watchdog of a client's own process: when commands cease, the arm is held where it is, and then stopped.

It guards against a policy, a learner or a device that hangs while the arm still follows its last reference. What guards against
the death of this process is the robot's side.
"""

import threading
import time
from collections.abc import Callable
from math import isfinite

HOLD_AFTER_S, STOP_AFTER_S = (
    0.5,
    5.0,
)  # five late steps at 10 Hz; long enough for a pause of the machine, not for a person
LOOK_S = 0.05


class Watchdog:
    """Counts the seconds since the last command, while commands are due.

    They are due from each `feed` on, until `rest` says that none is. A hold ends with the next command. A stop is latched: from
    then on `require_alive` raises, until `clear`.

    Args:
        hold: makes the arm hold its present pose. What it raises stops the arm.
        stop: stops the arm for a reason; never raises.
        hold_after_s, stop_after_s: since the last command.
        clock: seconds, never going back.

    Attributes:
        lock: held while `hold` or `stop` is called. An arm takes it around every call of its driver, so that two threads
            never meet there; it may be taken again by the thread that holds it.
        held: whether the arm is being held.
        fed_s: when the last command went out, by the clock; None while none is due.
        reason: why the arm was stopped; None while it was not.
    """

    def __init__(
        self,
        hold: Callable[[], None],
        stop: Callable[[str], object],
        hold_after_s: float = HOLD_AFTER_S,
        stop_after_s: float = STOP_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (0.0 < hold_after_s <= stop_after_s and isfinite(stop_after_s)):
            raise ValueError(
                f"watchdog: hold_after_s {hold_after_s} and stop_after_s {stop_after_s} are no deadlines;"
                " give positive seconds, the hold first"
            )
        self.lock = threading.RLock()
        self.held = False
        self.reason: str | None = None
        self._hold, self._stop, self._clock = hold, stop, clock
        self.hold_after_s, self.stop_after_s = hold_after_s, stop_after_s
        self.fed_s: float | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def feed(self) -> None:
        """A command goes out, and the next one is due."""
        with self.lock:
            self.fed_s, self.held = self._clock(), False

    def rest(self) -> None:
        """No command is due: the arm waits for a person, or for the next episode."""
        with self.lock:
            self.fed_s, self.held = None, False

    def clear(self) -> None:
        """An operator has looked at the arm: forgets the reason."""
        with self.lock:
            self.reason = None
            self.rest()

    def require_alive(self) -> None:
        """Raises `TimeoutError` with the reason for which the arm was stopped, if it was."""
        if self.reason is not None:
            raise TimeoutError(self.reason)

    def check(self) -> None:
        """Does what is due by now. The watchdog's thread calls it; where there is none, whoever holds the clock."""
        with self.lock:
            if self.fed_s is None:
                return
            silent_s = self._clock() - self.fed_s
            if silent_s >= self.stop_after_s:
                self._end(f"no command came for {silent_s:.2f} s; the arm was held and then stopped")
            elif silent_s >= self.hold_after_s and not self.held:
                try:
                    self._hold()
                    self.held = True
                except Exception as error:  # whatever a driver raises: an arm that cannot be held is stopped
                    self._end(f"no command came for {silent_s:.2f} s and the arm could not be held: {error!r}")

    def open(self) -> None:
        """Starts looking, in a thread of its own. Harmless where it looks already."""
        if self._thread is None:
            self._closed.clear()
            self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stops looking. Safe to call twice."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _end(self, reason: str) -> None:
        self.reason, self.fed_s, self.held = reason, None, False
        self._stop(reason)

    def _work(self) -> None:
        while not self._closed.wait(LOOK_S):
            self.check()
