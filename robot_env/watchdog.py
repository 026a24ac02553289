"""Says when an arm is to be held, and when to be stopped, because nobody tells it any longer where to go."""

import time
from collections.abc import Callable
from typing import Literal

HOLD_S = 0.5  # five control periods at 10 Hz: then the policy's process is stuck, or its host is
STOP_S = 5.0


class Watchdog:
    """The time since the last reference. Used under its owner's lock.

    Args:
        clock: seconds, never going back.
        hold_s, stop_s: seconds without a reference until the arm is to be held, and until it is to be stopped.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, hold_s: float = HOLD_S, stop_s: float = STOP_S
    ) -> None:
        self._clock, self.hold_s, self.stop_s = clock, hold_s, stop_s
        self._fed_s, self._held = clock(), False

    def feed(self) -> None:
        """A reference has come."""
        self._fed_s, self._held = self._clock(), False

    def due(self) -> Literal["hold", "stop"] | None:
        """What is to be done now; holding is said once."""
        silent_s = self._clock() - self._fed_s
        if silent_s >= self.stop_s:
            return "stop"
        if silent_s >= self.hold_s and not self._held:
            self._held = True
            return "hold"
        return None
