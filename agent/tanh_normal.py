"""A diagonal normal squashed by tanh to (-1, 1): the one stochastic policy head."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

LOG_2 = 0.6931471805599453
LOG_2PI = 1.8378770664093453


@dataclass(frozen=True)
class TanhNormal:
    """The law of `tanh(z)`, `z ~ N(mean, std^2)`, independent over the action dimensions.

    Attributes:
        mean, log_std: `(B, A)`, of `z`, before the squashing.
    """

    mean: jax.Array
    log_std: jax.Array

    def mode(self) -> jax.Array:
        """`tanh(mean)`, `(B, A)`: the action of the deterministic policy."""
        return jnp.tanh(self.mean)

    def sample(self, key: jax.Array, n: int | None = None) -> tuple[jax.Array, jax.Array]:
        """Actions `(B, A)` and their log-densities `(B,)`, reparameterised; with `n` given, `(n, B, A)` and `(n, B)`."""
        shape = self.mean.shape if n is None else (n, *self.mean.shape)
        noise = jax.random.normal(key, shape, self.mean.dtype)
        mean = jnp.broadcast_to(self.mean, shape)
        log_std = jnp.broadcast_to(self.log_std, shape)
        z = mean + jnp.exp(log_std) * noise
        return jnp.tanh(z), _squashed_log_density(z, noise, log_std)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-density `(B,)` of actions `(B, A)`; the ends +-1 are pulled in by 1e-6, where the density has no limit."""
        z = jnp.arctanh(jnp.clip(action, -1.0 + 1e-6, 1.0 - 1e-6))
        return _squashed_log_density(z, (z - self.mean) * jnp.exp(-self.log_std), self.log_std)


def _squashed_log_density(z: jax.Array, noise: jax.Array, log_std: jax.Array) -> jax.Array:
    # log(1 - tanh(z)^2) written so that it neither cancels nor overflows for large |z|.
    log_slope = 2.0 * (LOG_2 - z - jax.nn.softplus(-2.0 * z))
    return jnp.sum(-0.5 * noise**2 - log_std - 0.5 * LOG_2PI - log_slope, axis=-1)
