"""TD3: a deterministic policy, a smoothed and pessimistic target, a delayed actor.

Fujimoto et al. 2018, Algorithm 1. The policy is the mode of the shared head, whose std is never trained: it acts with noise
of its own. The actor follows the mean of the ensemble where the paper's follows the first of two critics.
"""

import jax
import jax.numpy as jnp

from agent.losses import perturbed, td_error
from agent.policy import noisy_mode
from agent.types import Batch, Method, Metrics, Params, View


def critic(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - r - gamma * mask * min_M Q_target(s', a'))^2`, `a'` the target policy's mode with clipped noise."""
    noise_key, member_key = jax.random.split(key)
    next_action = view.pi_target(batch.next_obs).mode()
    next_action = perturbed(next_action, noise_key, view.coef["target_noise"], view.coef["noise_clip"])
    return td_error(params, view, batch, next_action, member_key)


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[mean_E Q(s, mode(s))]`."""
    q = jnp.mean(view.q(batch.obs, view.pi(batch.obs, params).mode()))
    return -q, {"q": q}


METHOD = Method(
    losses={"critic": critic, "actor": actor},
    cadence={"actor": 2},
    targets={"critic": "moving", "actor": "moving"},
    coef={"target_noise": 0.2, "noise_clip": 0.5},
    explore=noisy_mode(0.1),
)
