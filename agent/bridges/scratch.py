"""From nothing: no pre-training and no offline data; uniform random actions first, then online learning."""

from dataclasses import dataclass, replace

from agent.policy import UNIFORM
from agent.types import Phase


@dataclass(frozen=True)
class Bridge:
    """Learning from scratch, as the policies were that made D4RL's data (Haarnoja et al. 2018).

    Attributes:
        steps: environment steps with uniform random actions; they count out of the online phase's budget.
    """

    steps: int = 5000

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"bridge 'scratch': steps is {self.steps}; give at least 1")

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(random actions only, online)`."""
        if self.steps >= online.env_steps:
            raise ValueError(
                f"bridge 'scratch': {self.steps} random steps leave nothing of the online phase's {online.env_steps}; "
                "lower them or lengthen the online phase"
            )
        random = Phase("random", None, env_steps=self.steps, collect=UNIFORM)
        return random, replace(online, env_steps=online.env_steps - self.steps)
