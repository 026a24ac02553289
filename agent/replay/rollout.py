"""Rollouts: the newest rows of a replay in the order in which they came, and passes over them in minibatches."""

import jax
import jax.numpy as jnp

from agent.replay.frames import rows_of
from agent.types import Batch


def newest(columns: Batch, place: jax.Array, rows: int, key: jax.Array) -> Batch:
    """The newest rows of a replay, `(R, ...)`, the oldest first. The last one ends what is known of its episode.

    Where a rollout has fewer rows than steps (an operator removed an episode), those there are stand in for the missing ones,
    so that shapes and statistics are a whole rollout's.

    Args:
        columns: a ring of rows.
        place: `(2,)` int32: where the next row would be written, and how many rows the rollout has, at least 1.
        rows: R.
        key: picks among the views of pictures.
    """
    age = jnp.arange(rows - 1, -1, -1) % place[1]  # 0 is the newest
    index = (place[0] - 1 - age) % len(columns.reward)
    found = rows_of(columns, index, key)
    return found.replace(ended=jnp.where(age == 0, 1.0, found.ended))


def orders(key: jax.Array, rows: int, passes: int) -> jax.Array:
    """For each pass an order of the rows, `(passes, rows)`."""
    return jax.vmap(lambda own: jax.random.permutation(own, rows))(jax.random.split(key, passes))


def minibatch(rollout: Batch, order: jax.Array, number: jax.Array, size: int) -> Batch:
    """The minibatch of that number, `(1, size, ...)`, counted through all passes; `order` is of `orders`.

    A pass takes every row once; where its last minibatch is not full, the first rows of the pass fill it up.
    """
    rows = order.shape[1]
    each = -(-rows // size)  # of one pass
    at = (number % each * size + jnp.arange(size)) % rows
    return jax.tree.map(lambda x: x[order[number // each, at]][None], rollout)
