"""Drawing minibatches from several replays at fixed shares."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from agent.replay.ring import Ring
from agent.types import Batch

Sources = Mapping[str, tuple[Batch, jax.Array | None]]
"""By name: the columns, and how many of their rows are filled, `()` int32; or minibatches that the host has already drawn,
`(steps, U, count, ...)`, and None."""


def split(shares: Mapping[str, float], batch_size: int) -> dict[str, int]:
    """How many transitions of a minibatch come from each source; they add up to `batch_size` exactly.

    Rounding gives the largest remainders the spare ones, ties by order.
    """
    exact = {name: share * batch_size for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    spare = batch_size - sum(counts.values())
    for name in sorted(exact, key=lambda n: counts[n] - exact[n])[:spare]:
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def draw(
    sources: Sources, shares: Mapping[str, float], key: jax.Array, step: jax.Array, minibatches: int, batch_size: int
) -> Batch:
    """`(U, B, ...)` minibatches of one step, uniform with replacement within each source, drawn on the device."""
    parts = []
    for i, (name, count) in enumerate(split(shares, batch_size).items()):
        columns, size = sources[name]
        if size is None:
            parts.append(jax.tree.map(lambda x: x[step], columns))
            continue
        rows = jax.random.randint(jax.random.fold_in(key, i), (minibatches, count), 0, size)
        parts.append(jax.tree.map(lambda x, rows=rows: jnp.take(x, rows, axis=0), columns))
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)


def draw_on_host(
    ring: Ring, shares: Mapping[str, float], rng: np.random.Generator, steps: int, minibatches: int, batch_size: int
) -> Batch:
    """`(steps, U, count, ...)` minibatches of the share `online`, out of a host ring."""
    count = split(shares, batch_size)["online"]
    return ring.take(rng.integers(0, len(ring), (steps, minibatches, count)))
