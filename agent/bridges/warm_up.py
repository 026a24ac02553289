"""WSRL: fill the replay with the frozen policy's own steps, then learn online without the offline data."""

from dataclasses import dataclass

from agent.bridges.parts import after, check_steps
from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """WSRL, Algorithm 1.

    Attributes:
        steps: K, environment steps of the warm-up; they count on every x-axis and out of the online phase's budget.
    """

    steps: int = 5000

    def __post_init__(self) -> None:
        check_steps("warm_up", self.steps)

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, collect only, online)`."""
        rest = after("warm_up", self.steps, online)
        return offline, Phase("warm-up", None, env_steps=self.steps, collect=online.collect), rest
