"""What a learner asks of an actor, and how fast learning may go beside acting."""

import time
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
