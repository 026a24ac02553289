"""The control rate on the wall clock: when each command is due, and which went out late."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

LATE = 0.1  # of a period, 10 ms at 10 Hz: a tenth of the way that the arm goes meanwhile, and far above a sleep's own error


class Pace:
    """Holds a rate: `wait` returns when the next command is due, each one period after the one before, without drift.

    A command that goes out more than `LATE` of a period after it was due is late. The beat then starts anew from it, so that
    no hurried steps follow.

    `RobotEnv` waits just before it sends. A twin simulates the period in no time and the rest of it is waited for; an arm whose
    `send` itself lets time pass leaves as much of the period as reading and the policy need.

    Args:
        hz: commands per second.
        clock: seconds, never going back.
        sleep: lets seconds pass.

    Attributes:
        steps, late: commands so far, and those of them that went out late.
        step_s: from the command before to the last one, s; None for the first after `restart`.
        steps_s, busy_s: of the newest steps, how long each took from command to command, and how much of it was work.
    """

    def __init__(
        self, hz: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if not (isfinite(hz) and hz > 0):
            raise ValueError(f"rate {hz} Hz: give a positive number")
        self.period_s, self.steps, self.late = 1.0 / hz, 0, 0
        self.step_s: float | None = None
        self.steps_s: deque[float] = deque(maxlen=100_000)
        self.busy_s: deque[float] = deque(maxlen=100_000)
        self._clock, self._sleep = clock, sleep
        self._due_s: float | None = None
        self._sent_s = 0.0

    def restart(self) -> None:
        """The next command may go out at once: an episode begins."""
        self._due_s = self.step_s = None

    def wait(self) -> float:
        """Returns when the next command is due; by how many seconds it is late, 0 within the tolerance."""
        now_s, late_s = self._clock(), 0.0
        if self._due_s is None:
            self._due_s = now_s
        else:
            self.busy_s.append(now_s - self._sent_s)
            while now_s < self._due_s:
                self._sleep(self._due_s - now_s)
                now_s = self._clock()
            self.step_s = now_s - self._sent_s
            self.steps_s.append(self.step_s)
            if now_s - self._due_s > LATE * self.period_s:
                late_s, self._due_s, self.late = now_s - self._due_s, now_s, self.late + 1
        self._due_s, self._sent_s, self.steps = self._due_s + self.period_s, now_s, self.steps + 1
        return late_s

    def beat(self) -> dict[str, float]:
        """`wait`, told as `late_s`, and `step_s` where there is one."""
        late = {"late_s": self.wait()}
        return late if self.step_s is None else {**late, "step_s": self.step_s}

    def summary(self) -> dict[str, Any]:
        """See `summary`; and of the work in a step, the largest and the usual, ms."""
        busy = {f"busy_{name}_ms": value for name, value in quantiles_ms(self.busy_s).items()}
        return {**summary(self.steps, self.late, self.steps_s), **busy}


def summary(steps: int, late: int, steps_s: Sequence[float] | deque[float]) -> dict[str, Any]:
    """How well a rate was held: commands, those that went out late, and how long a step took from command to command, ms."""
    share = {"paced_steps": steps, "late_steps": late, "late_percent": round(100.0 * late / steps, 3) if steps else 0.0}
    return {**share, **{f"period_{name}_ms": value for name, value in quantiles_ms(steps_s).items()}}


def quantiles_ms(seconds: Sequence[float] | deque[float]) -> dict[str, float]:
    """`p50`, `p99` and `max` of some durations, ms; nothing of none."""
    if not seconds:
        return {}
    ordered = np.sort(np.array(seconds))  # of 100,000 it takes milliseconds: a learner asks every second
    places = {"p50": len(ordered) // 2, "p99": 99 * len(ordered) // 100, "max": -1}
    return {name: round(1000.0 * float(ordered[place]), 2) for name, place in places.items()}
