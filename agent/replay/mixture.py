"""Drawing minibatches from several replays, at shares that are fixed or change with the step."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from agent.replay.frames import rows_of, shifted
from agent.replay.ring import Ring
from agent.types import SOURCES, Batch, Scheduled, at_step

HUMAN = "human"

Sources = Mapping[str, tuple[Batch, jax.Array | None]]
"""By name (`human` draws from the rows of the replay in which a human acted): the columns, and how many of their rows are
filled, `()` int32, or for a rollout its place, `(2,)`, see
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
        draws = human_rows if name == HUMAN else even_rows
        rows = draws(columns, size, own, (minibatches, count))
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


def even_rows(columns: Batch, size: jax.Array, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Rows of the first `size`, drawn evenly."""
    return jax.random.randint(key, shape, 0, size)


def human_rows(columns: Batch, size: jax.Array, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Rows of the first `size` in which a human acted, drawn evenly; of all of them while none did."""
    chosen = (columns.source == SOURCES.index(HUMAN)) & (jnp.arange(len(columns.source)) < size)
    upto = jnp.cumsum(chosen)  # of N rows that is to read and write 4N bytes at each step
    drawn = jnp.searchsorted(upto, jax.random.randint(key, shape, 0, jnp.maximum(upto[-1], 1)), side="right")
    return jnp.where(upto[-1] > 0, drawn, even_rows(columns, size, key, shape))


def draw_on_host(
    ring: Ring,
    shares: Mapping[str, Scheduled],
    rng: np.random.Generator,
    steps: int,
    minibatches: int,
    batch_size: int,
    source: str = "online",
) -> Batch:
    """`(steps, U, count, ...)` minibatches of the share `source` (`online` or `human`), out of a host ring."""
    shape = (steps, minibatches, counts(shares, batch_size)[source])
    by_humans = np.flatnonzero(np.asarray(ring.columns.source[: len(ring)]) == SOURCES.index(HUMAN))
    if source == HUMAN and len(by_humans):
        return ring.take(by_humans[rng.integers(0, len(by_humans), shape)], rng)
    return ring.take(rng.integers(0, len(ring), shape), rng)
