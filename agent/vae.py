"""A conditional variational autoencoder of the data's actions, p(a|s): what a data set supports."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from agent.heads import Trunk

MIN_LOG_STD, MAX_LOG_STD = -4.0, 15.0  # of the latent's posterior, as in SPOT's public code


class VAE(nn.Module):
    """Encoder and decoder, two hidden layers each, without layer norm.

    `obs (B, D)`, `action (B, A)` and the latent's standard normal noise `(B, L)` give the loss of each row, `(B,)`: see
    `reconstruction_and_divergence`.
    """

    action_dim: int
    latent_dim: int
    hidden: int

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = Trunk((self.hidden, self.hidden), False, name="encoder")(jnp.concatenate([obs, action], axis=-1))
        mean = nn.Dense(self.latent_dim, name="mean")(x)
        log_std = jnp.clip(nn.Dense(self.latent_dim, name="log_std")(x), MIN_LOG_STD, MAX_LOG_STD)
        latent = mean + jnp.exp(log_std) * noise
        x = Trunk((self.hidden, self.hidden), False, name="decoder")(jnp.concatenate([obs, latent], axis=-1))
        decoded = jnp.tanh(nn.Dense(self.action_dim, name="action")(x))
        return reconstruction_and_divergence(decoded, action, mean, log_std)


def reconstruction_and_divergence(
    decoded: jax.Array, action: jax.Array, mean: jax.Array, log_std: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The two terms of a negative evidence bound, `(B,)` each, as SPOT's public code reduces them.

    `mean_A (decoded - a)^2` over the action's dimensions, and `mean_L KL(N(mean, std^2) || N(0, 1))` over the latent's.
    """
    divergence = 0.5 * (mean**2 + jnp.exp(2.0 * log_std) - 1.0) - log_std
    return jnp.mean((decoded - action) ** 2, axis=-1), jnp.mean(divergence, axis=-1)
