"""Behaviour cloning: maximum likelihood of the data's actions."""

import jax
import jax.numpy as jnp

from agent.losses import log_likelihood
from agent.types import Batch, Method, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[log pi(a | s + noise)]`; the noise is normal, of `noise` standard deviations of the data's observations.

    With some noise a clone of few demonstrations bears being off their path; without, it may fail at the first deviation.
    """
    std = view.state.normalizer.std
    names = [name for name in sorted(std) if batch.obs[name].ndim == 2]  # vectors
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    noisy = {
        name: batch.obs[name]
        + view.coef["noise"] * std[name][None] * jax.random.normal(keys[name], batch.obs[name].shape)
        for name in names
    }
    policy = view.pi({**batch.obs, **noisy}, params)
    error = jnp.mean((policy.mode() - batch.action) ** 2)
    return -jnp.mean(log_likelihood(policy, batch.action)), {"squared_error": error}


METHOD = Method(
    losses={"actor": actor},
    coef={"noise": 0.0},
    not_online="behaviour cloning learns nothing from rewards, so that acting does not improve it",
)
