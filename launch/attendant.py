"""Who looks at an arm that was stopped, so that the run goes on: the program at a twin, a human at a robot, or nobody."""

import getpass
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from robot_env.make import parse_arm
from robot_env.operator import Operator, Verdict

TWINS_RUNNER = "the twin's runner"
TRIES = 2  # of the program: a twin that fails again at once will go on failing
LOOK_S = 0.05  # between two looks for a key

Watch = Callable[[], None]


def unwatched() -> None:
    """Watches nothing."""


class Attendant(Protocol):
    """Asked before a reset where the arm was stopped, and again where the reset then failed."""

    def __call__(self, problem: str, attempt: int, watch: Watch) -> str | None:
        """The name of who has looked at the arm; None where nobody will.

        Args:
            problem: why the arm stands still, or cannot be reached.
            attempt: how often the same reset has been tried already.
            watch: to be called now and then while it takes; may raise.
        """
        ...


def program(problem: str, attempt: int, watch: Watch) -> str | None:
    """A twin's: nobody can be hurt there."""
    return TWINS_RUNNER if attempt < TRIES else None


def nobody(problem: str, attempt: int, watch: Watch) -> str | None:
    """A robot's without a human: the run ends, and `segue robot home --acknowledge` is how it goes on."""
    return None


class HumanAttendant:
    """A human with keys, who has all the time that they need.

    Args:
        operator: what they say; `success` is that they have looked.
        say: tells them something.
        sleep: lets seconds pass.
    """

    def __init__(
        self, operator: Operator, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._operator, self._say, self._sleep = operator, say, sleep

    def __call__(self, problem: str, attempt: int, watch: Watch) -> str | None:
        self._heard()  # what was said before they knew is no answer
        self._say(f"the arm stands still: {problem}; look at it, then press the key of a success (Enter)")
        while self._heard() != "success":
            watch()
            self._sleep(LOOK_S)
        return getpass.getuser()

    def _heard(self) -> Verdict | None:
        """What they said since the last time; nothing, while their device is what was lost."""
        with suppress(ConnectionError):
            return self._operator.verdict()
        return None


def attendant_of(
    arm: str,
    operator: Operator | None = None,
    say: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Attendant:
    """Who attends an arm: the human who has keys, or else the program where it is a twin."""
    if operator is not None:
        return HumanAttendant(operator, say, sleep)
    return program if parse_arm(arm).simulated else nobody
