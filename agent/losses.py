"""Pieces of losses that several methods share."""

import jax
import jax.numpy as jnp

from agent.types import Batch, View


def td_target(view: View, batch: Batch, next_value: jax.Array) -> jax.Array:
    """`r + gamma * mask * V(s')`, `(B,)`, without a gradient; the mask is 0 only where the task itself ended."""
    return jax.lax.stop_gradient(batch.reward + view.nets.discount * batch.mask * next_value)


def squared_td_error(q: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over members and batch of `(Q - y)^2`, for `q (E, B)` and `target (B,)`."""
    return jnp.mean((q - target[None, :]) ** 2)


def calibrate(q: jax.Array, batch: Batch) -> jax.Array:
    """`max(Q, V)` for `q (E, n, B)`, V the Monte-Carlo return, where the episode has one (Cal-QL, Nakamoto et al., Eq. 4)."""
    bound = jnp.where(batch.has_return > 0, batch.mc_return, -jnp.inf)
    return jnp.maximum(q, bound[None, None, :])
