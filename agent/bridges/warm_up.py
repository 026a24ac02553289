"""WSRL: fill the replay with the frozen policy's own steps, then learn online without the offline data."""

from dataclasses import dataclass, replace

from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """WSRL, Algorithm 1.

    Attributes:
        steps: K, environment steps of the warm-up; they count on every x-axis and out of the online phase's budget.
    """

    steps: int = 5000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"bridge 'warm_up': steps is {self.steps}; give at least 1, or use the bridge 'direct'")

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, collect only, online)`."""
        if self.steps >= online.env_steps:
            raise ValueError(
                f"bridge 'warm_up': {self.steps} steps leave nothing of the online phase's {online.env_steps}; "
                "shorten the warm-up or lengthen the online phase"
            )
        warm_up = Phase("warm-up", None, env_steps=self.steps, collect=online.collect)
        return offline, warm_up, replace(online, env_steps=online.env_steps - self.steps)
