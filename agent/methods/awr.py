"""Advantage-weighted regression with a critic by TD, as SMAC fine-tunes with it.

Peng et al. 2019, Algorithm 1, for the actor: weights `exp(beta * A)` under a limit. Their advantage is from returns, this one
from the critic, against the mean over the policy's own actions. SMAC's appendices K and L give 0.4 to 20 for beta.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.losses import exponential_weight, policy_advantage, weighted_cloning
from agent.methods import awac
from agent.types import Batch, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[w * log pi(a|s)]`, `w = min(exp(inverse_temperature * A), weight_limit)`, A against `sampled_actions` actions."""
    advantage = policy_advantage(view, batch, key, int(view.coef["sampled_actions"]))
    weight = exponential_weight(advantage, view.coef["inverse_temperature"], view.coef["weight_limit"])
    loss, metrics = weighted_cloning(params, view, batch, weight)
    return loss, {**metrics, "advantage": jnp.mean(advantage)}


METHOD = replace(
    awac.METHOD,
    losses={**awac.METHOD.losses, "actor": actor},
    coef={"inverse_temperature": 1.0, "weight_limit": 100.0, "sampled_actions": 10},
)
