"""A diffusion model of the data's actions, which is used for its score: noise schedule, network and loss.

Step k of K = 32 sees `sqrt(signal_k) a + sqrt(1 - signal_k) noise`, and the network predicts the noise. Its prediction is
`-sqrt(1 - signal_k)` times the score of the actions so noised: it points away from the data. The first step's noise has a
std of 0.06 in a box of -1..1, so that the score stays finite where the data have less spread or none, and an action at the
edge of the box is like any other, noised across the edge.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from agent.heads import Networks
from agent.types import Batch, Metrics, Params, View

STEPS = 32  # SMAC, Table 6
FEATURES = 64  # of the step and its embedding, Table 6
BLOCKS = 3  # Table 6, locomotion


def signal(step: jax.Array) -> jax.Array:
    """The share of variance that is the data's at steps 1..K: `cos(...)^2` (Nichol and Dhariwal 2021, Eq. 17)."""

    def curve(share: jax.Array | float) -> jax.Array:
        return jnp.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    # Nothing would be left at the last step, where a score of the data has no meaning.
    return jnp.clip(curve(step / STEPS) / curve(0.0), 1e-3)


class Denoiser(nn.Module):
    """The noise in an action: IDQL's residual network (Hansen-Estruch et al. 2023), as wide as a critic, without dropout.

    `obs (B, D)`, noised `action (B, A)`, `outcome (B,)` in 0..1, `step (B,)` in 1..K -> `(B, A)`.
    """

    networks: Networks

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array, outcome: jax.Array, step: jax.Array) -> jax.Array:
        width = self.networks.critic_hidden[0]
        frequency = jnp.exp(jnp.linspace(0.0, -math.log(1e3), FEATURES // 2))
        angle = step[:, None] * frequency[None, :]
        when = nn.Dense(2 * FEATURES)(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1))
        when = nn.Dense(FEATURES)(jax.nn.mish(when))
        x = nn.Dense(width)(jnp.concatenate([obs, action, outcome[:, None], when], axis=1))
        for _ in range(BLOCKS):
            hidden = jax.nn.mish(nn.Dense(4 * width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(width)(hidden)
        return nn.Dense(action.shape[1])(jax.nn.mish(x))


def denoising(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`E ||noise - eps(s, noised a, w, k)||^2`, k uniform in 1..K, w the episode's outcome (SMAC, appendix J)."""
    step_key, noise_key = jax.random.split(key)
    step = jax.random.randint(step_key, batch.reward.shape, 1, STEPS + 1)
    noise = jax.random.normal(noise_key, batch.action.shape)
    kept = signal(step)[:, None]
    noised = jnp.sqrt(kept) * batch.action + jnp.sqrt(1.0 - kept) * noise
    obs = view.seen(batch.obs)
    found = view.apply("score", obs, noised, batch.outcome, step, params=params)
    return jnp.mean(jnp.sum((noise - found) ** 2, axis=1)), {}
