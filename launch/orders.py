"""What a learner asks of an actor, and how fast learning may go beside acting."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where an actor's earlier sessions ended: episodes begun, environment steps, sampled actions of evaluations."""

    episodes: int = 0
    env_steps: int = 0
    evaluation_calls: int = 0


@dataclass(frozen=True)
class Order:
    """What an actor is to do. Sent again as often as need be: carried out once.

    Attributes:
        publication: the parameters to act with.
        phase: whose behaviour acts.
        after: the place in the actor's stream that the learner has come to. In lockstep the order is carried out where the
            actor stands exactly there, and has been where it stands further on.
        steps: control steps to take from there, fewer where an episode ends. Running free, how far ahead of the learner the
            actor may begin an episode.
        evaluation: number of the evaluation to make, between episodes; 0 for none.
        finished: nothing is left to do.
        place: where to go on from, in a new session.
    """

    publication: int
    phase: int
    after: int = 0
    steps: int = 0
    evaluation: int = 0
    finished: bool = False
    place: Place = Place()


@dataclass(frozen=True)
class Governor:
    """Keeps updates and environment steps at their ratio within a tolerance, as Reverb's rate limiter does.

    Attributes:
        utd: minibatches per environment step.
        tolerance: by how many minibatches either side may be ahead.
    """

    utd: int
    tolerance: int

    def may_learn(self, env_steps: int, updates: int, total_env_steps: int, at_once: int) -> int:
        """Environment steps' worth of updates that may be made now, at most `at_once`, and never more than the phase has.

        Nothing is learned from an empty phase.
        """
        if not env_steps:
            return 0
        ceiling = min(env_steps * self.utd + self.tolerance, total_env_steps * self.utd)
        return max(0, min(at_once, (ceiling - updates) // self.utd))

    def may_act(self, env_steps: int, updates: int) -> int:
        """Environment steps that actors may be ahead of what the learner has taken in."""
        return max(0, (self.tolerance - (env_steps * self.utd - updates)) // self.utd)


class Stopwatch:
    """Adds up how long something took."""

    def __init__(self) -> None:
        self.total_s = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        start_s = time.monotonic()
        try:
            yield
        finally:
            self.total_s += time.monotonic() - start_s


class Metronome:
    """Holds a rate in steps per second and counts the steps that came late.

    A step is late when it begins more than `LATE` of a period after its time; the beat then starts anew, so that one late step
    is not followed by hurried ones.

    Args:
        hz: steps per second.
    """

    LATE = 0.1

    def __init__(self, hz: float) -> None:
        if not (math.isfinite(hz) and hz > 0):
            raise ValueError(f"rate {hz} Hz: give a positive number")
        self.period_s, self.steps, self.late = 1.0 / hz, 0, 0
        self._next_s: float | None = None
        self._before_s = 0.0
        self.periods_s: deque[float] = deque(maxlen=100_000)

    def restart(self) -> None:
        """The next step may begin at once: an episode was reset."""
        self._next_s = None

    def wait(self) -> None:
        """Returns when the next step is due."""
        now_s = time.monotonic()
        if self._next_s is not None:
            if self._next_s > now_s:
                time.sleep(self._next_s - now_s)
                now_s = time.monotonic()
            late = now_s - self._next_s > self.LATE * self.period_s
            self.late += late
            self.periods_s.append(now_s - self._before_s)
            self._next_s = now_s + self.period_s if late else self._next_s + self.period_s
        else:
            self._next_s = now_s + self.period_s
        self._before_s = now_s
        self.steps += 1
