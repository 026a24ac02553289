"""What an operator says of an episode while it runs, by keys, pedals or buttons: success, failure, wait, stop, forget it."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, get_args

from robot_env.faults import Violation

Verdict = Literal["success", "failure", "pause", "stop", "discard"]
"""`success` and `failure` end the episode (see `Task.failure_penalty`), `pause` holds the arm until it is said again, `stop`
stops the arm as a fault, and `discard` cuts an episode that is not to be learned from."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Ending = Literal["success", "failure", "discard"]


class Operator(Protocol):
    """A human who watches, asked once per control step, and once per control period while the arm is held for them."""

    def begin(self) -> None:
        """An episode begins: what was said before it is forgotten, but for `stop`."""
        ...

    def verdict(self) -> Verdict | None:
        """What was said since the last time; `stop` before anything else.

        Raises:
            ConnectionError: the device is lost; the arm is stopped.
        """
        ...


class ScriptedOperator:
    """Says one thing, or nothing, each time it is asked; nothing after the last."""

    def __init__(self, verdicts: Sequence[Verdict | None]) -> None:
        self._verdicts = list(verdicts)

    def begin(self) -> None: ...

    def verdict(self) -> Verdict | None:
        return self._verdicts.pop(0) if self._verdicts else None


class ButtonOperator:
    """Hears what buttons say.

    Args:
        presses: gives the names of the buttons pressed since it was called last, in order.
        meaning: of a button by its name; others are let pass.
    """

    def __init__(self, presses: Callable[[], Sequence[str]], meaning: dict[str, Verdict]) -> None:
        self._presses, self._meaning = presses, meaning
        self._stopped = False

    def begin(self) -> None:
        self._stopped = "stop" in self._said()

    def verdict(self) -> Verdict | None:
        said = self._said()
        stopped, self._stopped = self._stopped or "stop" in said, False
        return "stop" if stopped else said[-1] if said else None

    def _said(self) -> list[Verdict]:
        return [self._meaning[name] for name in self._presses() if name in self._meaning]


class EitherOperator:
    """Hears several operators: the first of them that says something, and `stop` whoever says it."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self._operators = list(operators)

    def begin(self) -> None:
        for operator in self._operators:
            operator.begin()

    def verdict(self) -> Verdict | None:
        said: list[Verdict] = [each for operator in self._operators if (each := operator.verdict()) is not None]
        return "stop" if "stop" in said else said[0] if said else None


def hear(operator: Operator | None, hold: Callable[[], None]) -> Ending | None:
    """What the operator says of the step that was just taken; while they have it paused, `hold` is called again and again.

    Raises:
        Violation: they stopped the arm.
    """
    verdict = None if operator is None else operator.verdict()
    if operator is not None and verdict == "pause":
        verdict = None
        while verdict is None:
            hold()
            verdict = operator.verdict()
    if verdict == "stop":
        raise Violation("the operator stopped the arm")
    return None if verdict == "pause" else verdict
