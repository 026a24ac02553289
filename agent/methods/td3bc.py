"""TD3+BC: TD3 whose actor also stays near the actions of the data.

Fujimoto and Gu 2021, Eq. 5. SMAC (appendix L.3) has `q_weight` 1 and a weight of its own on the cloning term, here `bc`.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.losses import relative_q
from agent.methods import td3
from agent.types import Batch, Metrics, Params, View


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-q_weight * E[Q(s, mode)] / E|Q(s, mode)| + bc * E[(mode - a)^2]`; Q the mean over E, its scale a constant."""
    action = view.pi(batch.obs, params).mode()
    relative, q = relative_q(view, batch, action)
    error = jnp.mean((action - batch.action) ** 2)
    return view.coef["bc"] * error - view.coef["q_weight"] * relative, {"q": q, "squared_error": error}


METHOD = replace(
    td3.METHOD,
    losses={**td3.METHOD.losses, "actor": actor},
    coef={**td3.METHOD.coef, "q_weight": 2.5, "bc": 1.0},
)
