"""SOAR: the share of offline data falls linearly, the conservative weight exponentially, both to exactly zero.

With t in environment steps after the warm-up (Algorithm 1; the text's exponential alone would never reach zero):
`share(t) = share (1 - t / share_steps)`, `weight(t) = weight exp(-rate t / weight_steps)`, and 0 from `share_steps` and from
`weight_steps` on.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from agent.bridges.parts import linear
from agent.bridges.warm_up import Bridge as WarmUp
from agent.types import Phase

WEIGHT = "conservative"


@dataclass(frozen=True)
class Bridge:
    """The defaults are the paper's for Adroit's door (Table 1), its warm-up among them.

    Attributes:
        share: of offline data in a batch at first; 0 anneals the weight alone.
        share_steps: environment steps until it is 0.
        weight: conservative weight at first; -1 is the online method's own where it has one, 0 leaves that as it is.
        rate: of the weight's decay, per `weight_steps`.
        weight_steps: environment steps until it is 0.
        warm_up: environment steps of the frozen policy first; 0 for none.
    """

    share: float = 0.25
    share_steps: int = 20_000
    weight: float = -1.0
    rate: float = 5.0
    weight_steps: int = 40_000
    warm_up: int = 5000

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"bridge 'anneal': share is {self.share}; give a number from 0, below 1")
        if self.share_steps < 1 or self.weight_steps < 1 or not self.rate > 0 or self.warm_up < 0:
            raise ValueError(
                f"bridge 'anneal': share_steps {self.share_steps}, weight_steps {self.weight_steps}, rate {self.rate}, "
                f"warm_up {self.warm_up}; give counts and a rate above 0, and a warm-up of 0 or more"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, warm-up, online with schedules)`."""
        own = {**(online.method.coef if online.method else {}), **online.coef}.get(WEIGHT)
        if own is None and self.weight > 0:
            raise ValueError(
                "bridge 'anneal': the online method has no conservative weight to anneal; "
                "set weight 0 to anneal the share alone, or choose cql or calql online"
            )
        weight = (own or 0.0) if self.weight < 0 else self.weight
        if not self.share and not weight:
            raise ValueError("bridge 'anneal': neither a share nor a weight is annealed; use 'direct' or 'warm_up'")
        if self.share:
            share = linear(self.share, 0.0, self.share_steps)
            online = replace(online, shares={"offline": share, "online": lambda t: 1.0 - share(t)})
        if weight:
            online = replace(online, coef={**online.coef, WEIGHT: lambda t: self._weight(weight, t)})
        return WarmUp(self.warm_up)(offline, online) if self.warm_up else (offline, online)

    def _weight(self, weight: float, t: Any) -> Any:
        return jnp.where(t < self.weight_steps, weight * jnp.exp(-self.rate * t / self.weight_steps), 0.0)
