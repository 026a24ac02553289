"""AWAC: the actor clones the batch's actions, the better ones more.

Nair et al. 2020, Algorithm 1. Critic by TD with the policy's next action; no entropy anywhere.
"""

import jax
import jax.numpy as jnp

from agent.losses import policy_advantage, weighted_cloning
from agent.methods import sac
from agent.types import Batch, Method, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[w * log pi(a|s)]`, `w = B * softmax(A / advantage_temperature)` over the batch, A against one action of the policy.

    The weights' mean is 1, so that the step does not depend on the size of the batch.
    """
    advantage = policy_advantage(view, batch, key, n=1)
    weight = len(advantage) * jax.nn.softmax(advantage / view.coef["advantage_temperature"])
    loss, metrics = weighted_cloning(params, view, batch, weight)
    return loss, {**metrics, "advantage": jnp.mean(advantage)}


METHOD = Method(
    losses={"critic": sac.critic, "actor": actor},
    targets={"critic": "moving"},
    coef={"advantage_temperature": 1.0},
)
