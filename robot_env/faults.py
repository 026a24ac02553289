"""Faults: why the arm was stopped, latched until an operator says they have looked."""

from dataclasses import dataclass, replace


class Violation(Exception):
    """A command or a reading that must not pass; its text is the reason, one clause."""


class ArmFault(RuntimeError):
    """The arm has been stopped and stays so until an operator acknowledges the reason."""


@dataclass(frozen=True)
class Fault:
    """One stop, kept for audit.

    Attributes:
        reason: what happened.
        episode: how many resets had been asked for.
        step: control steps into that episode.
        acknowledged_by: the operator, or `None` while latched.
    """

    reason: str
    episode: int
    step: int
    acknowledged_by: str | None = None


class FaultLatch:
    """Holds at most one open fault, and the history of all."""

    def __init__(self) -> None:
        self.history: list[Fault] = []

    @property
    def open(self) -> Fault | None:
        """The fault nobody has acknowledged yet."""
        return self.history[-1] if self.history and self.history[-1].acknowledged_by is None else None

    def latch(self, reason: str, episode: int, step: int) -> Fault:
        """Record a fault. While one is open, the first reason stands and later ones are not new faults."""
        if self.open is None:
            self.history.append(Fault(reason, episode, step))
        return self.history[-1]

    def require_clear(self) -> None:
        """Raises `ArmFault` while a fault is open."""
        if self.open is not None:
            raise ArmFault(
                f"the arm was stopped: {self.open.reason}; look at it, then call acknowledge(operator) and reset(), "
                "or give `segue robot home --acknowledge NAME` and the same command with --resume"
            )

    def acknowledge(self, operator: str) -> Fault:
        """Close the open fault in the operator's name. Raises `ValueError` without a name or without a fault."""
        if not isinstance(operator, str) or not operator.strip():
            raise ValueError(f"operator {operator!r} is not a name; say who looked at the arm")
        if self.open is None:
            raise ValueError("no fault is open; acknowledge() only after the arm was stopped")
        self.history[-1] = replace(self.history[-1], acknowledged_by=operator.strip())
        return self.history[-1]
