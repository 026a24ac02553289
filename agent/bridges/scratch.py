"""From nothing: no pre-training and no offline data; uniform random actions first, then online learning."""

from dataclasses import dataclass

from agent.bridges.parts import after, check_steps
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
        check_steps("scratch", self.steps)

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(random actions only, online)`."""
        rest = after("scratch", self.steps, online)
        return Phase("random", None, env_steps=self.steps, collect=UNIFORM), rest
