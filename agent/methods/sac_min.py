"""SAC whose actor follows the most pessimistic critic, as WSRL's simulation code does."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.methods import sac
from agent.types import Batch, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`E[temperature * log pi(a|s) - min_E Q(s,a)]`, `a ~ pi(s)`."""
    action, log_prob = view.pi(batch.obs, params).sample(key)
    q = jnp.min(view.q(batch.obs, action), axis=0)
    return jnp.mean(view.temperature() * log_prob - q), {"entropy": -jnp.mean(log_prob), "q": jnp.mean(q)}


METHOD = replace(sac.METHOD, losses={**sac.METHOD.losses, "actor": actor})
