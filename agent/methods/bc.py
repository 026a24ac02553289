"""Behaviour cloning: maximum likelihood of the data's actions."""

import jax
import jax.numpy as jnp

from agent.types import Batch, Method, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[log pi(a|s)]`."""
    del key  # nothing is drawn
    policy = view.pi(batch.obs, params)
    error = jnp.mean((policy.mode() - batch.action) ** 2)
    return -jnp.mean(policy.log_prob(batch.action)), {"squared_error": error}


METHOD = Method(losses={"actor": actor})
