"""Drawing minibatches from several replays, at shares that are fixed or change with the step."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from agent.replay.frames import rows_of, shifted
from agent.replay.ring import Ring
from agent.types import Batch, Scheduled, at_step

Sources = Mapping[str, tuple[Batch, jax.Array | None]]
"""By name: the columns, and how many of their rows are filled, `()` int32, or for a rollout its place, `(2,)`, see
`agent.replay.rollout.newest`; or minibatches that the host has already drawn, `(steps, U, count, ...)`, and None."""


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


def counts(shares: Mapping[str, Scheduled], batch_size: int) -> dict[str, int]:
    """How many transitions are drawn from each source for a minibatch: as `split` says; all of them where a share changes."""
    if any(callable(share) for share in shares.values()):
        return dict.fromkeys(shares, batch_size)
    return split(at_step(shares, 0), batch_size)


def draw(
    sources: Sources,
    shares: Mapping[str, Scheduled],
    key: jax.Array,
    step: jax.Array,
    phase_step: jax.Array,
    minibatches: int,
    batch_size: int,
) -> Batch:
    """`(U, B, ...)` minibatches of one step, uniform with replacement within each source, drawn on the device.

    Where shares change, a minibatch is drawn from both sources, and the first `round(share x B)` rows are the first's.

    Args:
        step: which of the minibatches that the host has drawn, counted from 0 within the program.
        phase_step: environment step of the phase, for the shares.
    """
    parts = []
    for i, (name, count) in enumerate(counts(shares, batch_size).items()):
        columns, size = sources[name]
        own = jax.random.fold_in(key, i)
        if size is None:
            parts.append(shifted(jax.tree.map(lambda x: x[step], columns), own))
            continue
        rows = jax.random.randint(own, (minibatches, count), 0, size)
        parts.append(rows_of(columns, rows, jax.random.fold_in(own, 1)))
    if len(parts) == 1:
        return parts[0]
    if sum(x.reward.shape[1] for x in parts) == batch_size:
        return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)
    share = at_step(shares, phase_step)[next(iter(shares))]
    is_first = jnp.arange(batch_size) < jnp.floor(share * batch_size + 0.5)

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(is_first.reshape(1, batch_size, *[1] * (a.ndim - 2)), a, b)

    return jax.tree.map(choose, *parts)


def draw_on_host(
    ring: Ring, shares: Mapping[str, Scheduled], rng: np.random.Generator, steps: int, minibatches: int, batch_size: int
) -> Batch:
    """`(steps, U, count, ...)` minibatches of the share `online`, out of a host ring."""
    count = counts(shares, batch_size)["online"]
    return ring.take(rng.integers(0, len(ring), (steps, minibatches, count)), rng)
