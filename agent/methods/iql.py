"""Implicit Q-learning: the best action of the data without ever asking for another.

Kostrikov et al. 2022, Eq. 5-7; groups are updated in the order of their public code: value, actor, critic.
"""

import jax
import jax.numpy as jnp

from agent.losses import expectile_loss, exponential_weight, squared_td_error, td_target, weighted_cloning
from agent.types import Batch, Method, Metrics, Params, View


def _target_q(view: View, batch: Batch, key: jax.Array) -> jax.Array:
    """`min_M Q_target(s,a)`, `(B,)`, at the data's actions."""
    return jnp.min(view.q_target(batch.obs, batch.action, key), axis=0)


def value(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """The `expectile` loss of `min_M Q_target(s,a) - V(s)`."""
    v = view.v(batch.obs, params)
    return expectile_loss(_target_q(view, batch, key) - v, view.coef["expectile"]), {"v": jnp.mean(v)}


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[w * log pi(a|s)]`, `w = min(exp(inverse_temperature * A), weight_limit)`, `A = min_M Q_target(s,a) - V(s)`."""
    advantage = _target_q(view, batch, key) - view.v(batch.obs)
    weight = exponential_weight(advantage, view.coef["inverse_temperature"], view.coef["weight_limit"])
    loss, metrics = weighted_cloning(params, view, batch, weight)
    return loss, {**metrics, "advantage": jnp.mean(advantage)}


def critic(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - r - gamma * mask * V(s'))^2`."""
    q = view.q(batch.obs, batch.action, params)
    return squared_td_error(q, td_target(view, batch, view.v(batch.next_obs))), {"q": jnp.mean(q)}


METHOD = Method(
    losses={"value": value, "actor": actor, "critic": critic},
    targets={"critic": "moving"},
    coef={"expectile": 0.7, "inverse_temperature": 3.0, "weight_limit": 100.0},
)
