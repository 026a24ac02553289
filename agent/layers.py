"""Layer norm of stacked networks; with relu, as one operation with its own backward pass.

Left to automatic differentiation, the compiler fuses the row statistics into every consumer and computes them again per
element: on a CPU that costs more than the matrix products. The barriers make it compute each statistic once.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-6  # flax's default


def normed(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """`layer_norm(x) * scale + shift` over the last axis: `x (E, R, H)`, `scale, shift (E, H)` -> `(E, R, H)`."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + EPSILON)
    return x * inverse * scale[:, None, :] + shift[:, None, :]


@jax.custom_vjp
def normed_relu(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    """`relu(layer_norm(x) * scale + shift)` over the last axis: `x (E, R, H)`, `scale, shift (E, H)` -> `(E, R, H)`."""
    return _forward(x, scale, shift)[0]


def _forward(x: jax.Array, scale: jax.Array, shift: jax.Array) -> tuple[jax.Array, tuple]:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.maximum(jnp.mean(x * x, axis=-1, keepdims=True) - mean * mean, 0.0)
    mean, inverse = jax.lax.optimization_barrier((mean, jax.lax.rsqrt(variance + EPSILON)))
    y = jax.nn.relu((x - mean) * inverse * scale[:, None, :] + shift[:, None, :])
    return y, (x, mean, inverse, scale, shift)


def _backward(saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, scale, shift = saved
    n = (x - mean) * inverse
    g = jax.lax.optimization_barrier(jnp.where(n * scale[:, None, :] + shift[:, None, :] > 0, g, 0.0))
    g_n = g * scale[:, None, :]
    row_means = jnp.mean(g_n, axis=-1, keepdims=True), jnp.mean(g_n * n, axis=-1, keepdims=True)
    mean_g, mean_gn = jax.lax.optimization_barrier(row_means)
    return (g_n - mean_g - n * mean_gn) * inverse, jnp.sum(g * n, axis=1), jnp.sum(g, axis=1)


normed_relu.defvjp(_forward, _backward)
