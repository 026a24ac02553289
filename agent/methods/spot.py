"""SPOT: TD3 whose actor stays where a density model of the data's actions finds them likely.

Wu et al. 2022 (arXiv 2202.06239) and its public code. The model is a variational autoencoder, trained first and then
frozen; online the weight of its penalty falls, so that the policy may leave the data.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.losses import relative_q
from agent.methods import td3
from agent.types import Array, Batch, Method, Metrics, Params, View

BETA = 0.5  # weight of the divergence: in every experiment of the paper


def unlikelihood(
    view: View, batch: Batch, action: jax.Array, key: jax.Array, params: Params | None = None
) -> tuple[Array, Metrics]:
    """`E[reconstruction error + BETA * divergence]`: a negative evidence bound of log p(a|s) up to a factor and a constant."""
    noise = jax.random.normal(key, (len(action), view.nets.modules["vae"].latent_dim))
    terms = view.apply("vae", view.seen(batch.obs), action, noise, params=params)
    reconstruction, divergence = (jnp.mean(term) for term in terms)
    return reconstruction + BETA * divergence, {"reconstruction": reconstruction, "divergence": divergence}


def vae(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """The negative evidence bound of the data's actions."""
    return unlikelihood(view, batch, batch.action, key, params)


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[Q(s, mode)] / E|Q(s, mode)| + support * (negative evidence bound of the mode)`."""
    action = view.pi(batch.obs, params).mode()
    relative, q = relative_q(view, batch, action)
    penalty, metrics = unlikelihood(view, batch, action, key)
    return view.coef["support"] * penalty - relative, {"q": q, "penalty": penalty, **metrics}


METHOD = replace(
    td3.METHOD,
    losses={**td3.METHOD.losses, "actor": actor},
    frozen=("vae",),
    coef={**td3.METHOD.coef, "support": 0.1},
    before=Method(losses={"vae": vae}),
    cools={"support": 0.2},
)
