"""Pieces of losses that several methods share."""

from typing import Any

import jax
import jax.numpy as jnp

from agent.tanh_normal import TanhNormal
from agent.types import Batch, Metrics, Params, View

CLONING_EDGE = 0.97


def td_target(view: View, batch: Batch, next_value: jax.Array) -> jax.Array:
    """`r + gamma * mask * V(s')`, `(B,)`, without a gradient; the mask is 0 only where the task itself ended."""
    return jax.lax.stop_gradient(batch.reward + view.nets.discount * batch.mask * next_value)


def squared_td_error(q: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over members and batch of `(Q - y)^2`, for `q (E, B)` and `target (B,)`."""
    return jnp.mean((q - target[None, :]) ** 2)


def td_error(
    params: Params, view: View, batch: Batch, next_action: jax.Array, key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - r - gamma * mask * min_M Q_target(s', a'))^2` for next actions `(B, A)`, M members drawn with the key."""
    next_q = jnp.min(view.q_target(batch.next_obs, next_action, key), axis=0)
    q = view.q(batch.obs, batch.action, params)
    return squared_td_error(q, td_target(view, batch, next_q)), {"q": jnp.mean(q)}


def perturbed(action: jax.Array, key: jax.Array, std: Any, limit: Any) -> jax.Array:
    """`action + clip(std * eps, -limit, limit)`, eps standard normal, kept in the box -1..1."""
    noise = jnp.clip(std * jax.random.normal(key, action.shape), -limit, limit)
    return jnp.clip(action + noise, -1.0, 1.0)


def calibrate(q: jax.Array, batch: Batch) -> jax.Array:
    """`max(Q, V)` for `q (E, n, B)`, V the Monte-Carlo return, where the episode has one (Cal-QL, Nakamoto et al., Eq. 4)."""
    bound = jnp.where(batch.has_return > 0, batch.mc_return, -jnp.inf)
    return jnp.maximum(q, bound[None, None, :])


def expectile_loss(error: jax.Array, expectile: Any) -> jax.Array:
    """Mean of `|expectile - 1(error < 0)| * error^2`: its minimum is that expectile (Kostrikov et al. 2022, Eq. 5)."""
    return jnp.mean(jnp.where(error < 0, 1.0 - expectile, expectile) * error**2)


def policy_advantage(view: View, batch: Batch, key: jax.Array, n: int) -> jax.Array:
    """`min_E Q(s,a) - mean_i min_E Q(s, a_i)`, `(B,)`, with n actions `a_i ~ pi(s)` and the minimum over all members."""
    drawn, _ = view.pi(batch.obs).sample(key, n)
    q = jnp.min(view.q(batch.obs, jnp.concatenate([batch.action[None], drawn])), axis=0)
    return q[0] - jnp.mean(q[1:], axis=0)


def relative_q(view: View, batch: Batch, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`E[Q(s,a)] / E|Q(s,a)|` for actions `(B, A)`, Q the mean over E and the scale below it a constant; and `E[Q(s,a)]`."""
    q = jnp.mean(view.q(batch.obs, action), axis=0)
    return jnp.mean(q) / jax.lax.stop_gradient(jnp.mean(jnp.abs(q))), jnp.mean(q)


def exponential_weight(advantage: jax.Array, inverse_temperature: Any, limit: Any) -> jax.Array:
    """`min(exp(inverse_temperature * A), limit)`, `(B,)`."""
    return jnp.minimum(jnp.exp(inverse_temperature * advantage), limit)


def log_likelihood(policy: TanhNormal, action: jax.Array) -> jax.Array:
    """`log pi(a)`, `(B,)`, of data's actions, those at the box's edge pulled in to `CLONING_EDGE`.

    Before the squashing, an action at the very edge lies six times as far out as one of 0.75: a few of them, as commands
    that were clipped leave behind, would decide mean and std for all others.
    """
    return policy.log_prob(jnp.clip(action, -CLONING_EDGE, CLONING_EDGE))


def weighted_cloning(params: Params, view: View, batch: Batch, weight: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[w * log pi(a|s)]` for constant weights `(B,)` of the batch's actions.

    The metric `effective_share`, `mean(w)^2 / mean(w^2)`, is 1 for equal weights and 1/B where one row has them all.
    """
    weight = jax.lax.stop_gradient(weight)
    share = jnp.mean(weight) ** 2 / jnp.maximum(jnp.mean(weight**2), jnp.finfo(weight.dtype).tiny)
    loss = -jnp.mean(weight * log_likelihood(view.pi(batch.obs, params), batch.action))
    return loss, {"weight": jnp.mean(weight), "effective_share": share}
