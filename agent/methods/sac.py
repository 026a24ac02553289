"""Soft actor-critic as WSRL and RLPD run it: a REDQ ensemble, no entropy in the backup, one actor step per U critic steps.

Haarnoja et al. 2018; WSRL Algorithm 1. The actor follows the mean of the ensemble, as RLPD and WSRL's robot code do.
"""

import jax
import jax.numpy as jnp

from agent.losses import td_error
from agent.types import Batch, Method, Metrics, Params, View


def critic(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - r - gamma * mask * min_M Q_target(s', a'))^2`, `a' ~ pi(s')`, M sampled members."""
    action_key, member_key = jax.random.split(key)
    next_action, _ = view.pi(batch.next_obs).sample(action_key)
    return td_error(params, view, batch, next_action, member_key)


def actor(
    params: Params, view: View, batch: Batch, key: jax.Array, pessimistic: bool = False
) -> tuple[jax.Array, Metrics]:
    """`E[temperature * log pi(a|s) - mean_E Q(s,a)]`, `a ~ pi(s)`; with `pessimistic` the minimum over E."""
    action, log_prob = view.pi(batch.obs, params).sample(key)
    over_members = jnp.min if pessimistic else jnp.mean
    q = over_members(view.q(batch.obs, action), axis=0)
    return jnp.mean(view.temperature() * log_prob - q), {"entropy": -jnp.mean(log_prob), "q": jnp.mean(q)}


def temperature(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`temperature * (entropy - target entropy)`: rises when the policy is too certain."""
    _, log_prob = view.pi(batch.obs).sample(key)
    value = view.temperature(params)
    surplus = jax.lax.stop_gradient(-jnp.mean(log_prob) - view.nets.target_entropy)
    return value * surplus, {"value": value}


METHOD = Method(
    losses={"critic": critic, "actor": actor, "temperature": temperature},
    cadence={"critic": "each", "actor": "once", "temperature": "once"},
    targets={"critic": "moving"},
)
