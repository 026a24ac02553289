"""JSRL: in some episodes the pre-trained policy rolls in, and the learned one, begun as its copy, takes over.

Uchendu et al. 2023, in the form of WSRL (appendix J): an episode rolls in with a probability that falls linearly to 0, for a
geometric number of steps; the critics begin at random, and offline data are not kept.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from agent.bridges.parts import linear, value_groups
from agent.types import Behavior, Phase


def roll_in(behavior: Behavior, gamma: float) -> Behavior:
    """The group `prior` for `floor(log u / log gamma)` steps of an episode with probability `roll_in`, then `behavior`.

    That number of steps is at least k with probability `gamma^k`.
    """

    def act(view, obs, now):
        chosen, length = jax.random.uniform(now.episode_key, (2,), minval=jnp.finfo(jnp.float32).tiny)
        steps = jnp.where(chosen < view.coef["roll_in"], jnp.floor(jnp.log(length) / jnp.log(gamma)), 0.0)
        prior = behavior.act(view.reading({"actor": "prior"}), obs, now)
        return jnp.where(now.step < steps, prior, behavior.act(view, obs, now))

    return Behavior((*behavior.groups, "prior"), act)


@dataclass(frozen=True)
class Bridge:
    """The defaults are WSRL's.

    Attributes:
        probability: that an episode rolls in, at first.
        steps: environment steps until it is 0.
        gamma: of the geometric law of the roll-in's length.
    """

    probability: float = 0.5
    steps: int = 100_000
    gamma: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1 or not 0 < self.gamma < 1 or self.steps < 1:
            raise ValueError(
                f"bridge 'jump_start': probability {self.probability}, gamma {self.gamma}, steps {self.steps}; "
                "give a probability above 0, a gamma between 0 and 1, and at least 1 step"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, online with roll-ins)`."""
        assert online.method is not None
        assert online.collect is not None
        return offline, replace(
            online,
            method=replace(online.method, frozen=(*online.method.frozen, "prior")),
            collect=roll_in(online.collect, self.gamma),
            acting={"roll_in": linear(self.probability, 0.0, self.steps)},
            fresh=value_groups(online.method),
            copies={"prior": "actor"},
        )
