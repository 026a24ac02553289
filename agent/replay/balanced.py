"""Balanced replay: data set and replay as one, in which a transition is drawn as often as it looks like one of now.

Lee et al. 2022 (Off2On): a network learns the ratio `w(s,a)` of the densities of the replay and of the data set
(`agent.bridges.balanced`), and a transition that was drawn gets the priority `w^(1/T)` over its mean on the data set.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from agent.replay.frames import rows_of
from agent.replay.mixture import Sources, draw
from agent.types import Batch, State, View

HALVES = {"offline": 0.5, "online": 0.5}
LEAST, MOST = 1e-3, 1e3  # bounds of a priority; Off2On's public code
# The highest priority begins so that this many new transitions make that share of the draws; Off2On's public code.
FIRST, FIRST_SHARE = 1000, 0.75


def first_priorities(rows: Mapping[str, int]) -> dict[str, jax.Array]:
    """1 for the data set; 0, which stands for the highest there was, for rows that the replay is going to have; and that."""
    highest = jnp.float32(FIRST_SHARE / (1.0 - FIRST_SHARE) * rows["offline"] / FIRST)
    return {
        "offline": jnp.ones(rows["offline"]),
        "online": jnp.zeros(rows["online"]),
        "highest": jnp.maximum(highest, 1.0),
    }


def renewed(priority: Mapping[str, jax.Array], rows: jax.Array) -> dict[str, jax.Array]:
    """The replay's `rows` were written anew: they are drawn with the highest priority until they were."""
    return {**priority, "online": priority["online"].at[rows].set(0.0, mode="drop")}


def draw_balanced(
    sources: Sources,
    priority: Mapping[str, jax.Array],
    key: jax.Array,
    minibatches: int,
    batch_size: int,
) -> Batch:
    """`(U, B, ...)` minibatches drawn with replacement in proportion to the priorities, with `index` and `contrast`.

    The contrast is of 2B rows a minibatch, the first half of them the data set's. Each step adds up all priorities: of N rows
    that is to read and write 4N bytes each.
    """
    (offline, n), (online, m) = sources["offline"], sources["online"]
    assert n is not None
    assert m is not None
    chosen, even = jax.random.split(key)
    filled = jnp.arange(len(priority["online"])) < m
    fresh = jnp.where(priority["online"] > 0, priority["online"], priority["highest"])
    edges = jnp.cumsum(jnp.concatenate([priority["offline"], jnp.where(filled, fresh, 0.0)]))
    # Never the last edge itself, nor, by rounding, a row of the replay that is not filled.
    at = jax.random.uniform(chosen, (minibatches, batch_size)) * edges[-1]
    count = len(priority["offline"])
    index = jnp.minimum(jnp.searchsorted(edges, at, side="right"), count + m - 1)
    from_data = index < count

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(from_data.reshape(*index.shape, *[1] * (a.ndim - 2)), a, b)

    first, second = jax.random.split(jax.random.fold_in(chosen, 1))
    at_data, at_replay = jnp.minimum(index, count - 1), jnp.maximum(index - count, 0)
    drawn = jax.tree.map(choose, rows_of(offline, at_data, first), rows_of(online, at_replay, second))
    now = jnp.int32(0)
    return drawn.replace(index=index, contrast=draw(sources, HALVES, even, now, now, minibatches, 2 * batch_size))


def halves(batch: Batch, axis: int = 0) -> tuple[Batch, Batch]:
    """The first and the second half of the rows, along an axis: the data set's and the replay's."""
    parts = jax.tree.map(lambda x: tuple(jnp.split(x, 2, axis)), batch)
    return tuple(jax.tree.map(lambda x, i=i: x[i], parts, is_leaf=lambda x: isinstance(x, tuple)) for i in (0, 1))


def prioritised(view: View, batches: Batch) -> State:
    """The state with new priorities for the transitions that were drawn, `(U, B, ...)`."""
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches.replace(contrast=None))
    assert batches.contrast is not None
    data, _ = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), halves(batches.contrast, axis=1))

    def power(batch: Batch) -> jax.Array:
        return view.density_ratio(batch.obs, batch.action) ** (1.0 / view.coef["density_temperature"])

    new = jnp.clip(power(rows) / (jnp.mean(power(data)) + 1e-10), LEAST, MOST)
    old, index = view.state.priority, rows.index
    count = len(old["offline"])
    offline = old["offline"].at[index].set(new, mode="drop")
    online = old["online"].at[jnp.where(index < count, len(old["online"]), index - count)].set(new, mode="drop")
    highest = jnp.maximum(old["highest"], jnp.max(new))
    return view.state.replace(priority={"offline": offline, "online": online, "highest": highest})
