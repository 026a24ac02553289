"""PORL: only the policy is kept; its critics are learned anew, from its own noisy steps, before it moves.

Xiao et al. 2025, as SOAR (appendix F) describes it: epsilon-greedy steps of the pre-trained policy, on which random critics
are trained at a high update-to-data ratio; then online learning. Neither offline data nor offline critics.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from agent.bridges.parts import after, check_steps, value_groups, values_only
from agent.policy import UNIFORM
from agent.types import Behavior, Phase


def epsilon_greedy(behavior: Behavior, epsilon: float) -> Behavior:
    """`behavior`, but with probability `epsilon` a uniform random action."""

    def act(view, obs, now):
        choice, own = jax.random.split(now.key)
        random = jax.random.uniform(choice) < epsilon
        now = now.replace(key=own)
        return jnp.where(random, UNIFORM.act(view, obs, now), behavior.act(view, obs, now))

    return Behavior(behavior.groups, act)


@dataclass(frozen=True)
class Bridge:
    """The paper gives no numbers for these here; see docs/fidelity.md.

    Attributes:
        steps: environment steps of the critic-only phase; they count out of the online phase's budget.
        epsilon: probability of a uniform random action in it.
        utd: minibatches per environment step in it.
    """

    steps: int = 5000
    epsilon: float = 0.1
    utd: int = 10

    def __post_init__(self) -> None:
        check_steps("policy_only", self.steps)
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"bridge 'policy_only': epsilon is {self.epsilon}; give a probability")

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, critics only, online)`."""
        rest = after("policy_only", self.steps, online)
        assert online.method is not None
        assert online.collect is not None
        critics = replace(
            online,
            name="critics",
            method=values_only(online.method),
            env_steps=self.steps,
            utd=self.utd,
            collect=epsilon_greedy(online.collect, self.epsilon),
            fresh=value_groups(online.method),
        )
        return offline, critics, rest
