"""Pictures in a replay: each is kept once, as features or as it came, and rows say where theirs lies."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from agent.types import Array, Batch
from encoders.augment import random_shift

FRAME = "frame"  # the observation that says where a row's pictures lie
Encode = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""What is kept of pictures `(N, H, W, 3)` uint8 by camera: `(N, 1 + V, ...)`."""
SPARE = 8  # a store has room for one more first picture in so many rows; shorter episodes cost the oldest rows
LEAST_SPARE = 64


def rows_of(columns: Batch, index: jax.Array, key: jax.Array) -> Batch:
    """The rows `index (...)` of columns on the device, with their pictures. `key` picks views and shifts."""
    found = jax.tree.map(lambda x: jnp.take(x, index, axis=0), columns.replace(frames=None))
    return found if columns.frames is None else with_pictures(found, columns.frames, key)


def with_pictures(batch: Batch, frames: Mapping[str, Array], key: jax.Array) -> Batch:
    """A batch with pictures instead of places: of each one of its views, drawn evenly; raw pictures are shifted at random."""
    keys = jax.random.split(key)

    def pictures(obs: Mapping[str, Array], key: jax.Array) -> dict[str, Array]:
        found = {name: x for name, x in obs.items() if name != FRAME}
        for i, (name, store) in enumerate(sorted(frames.items())):
            own = jax.random.fold_in(key, i)
            view = jax.random.randint(own, obs[FRAME].shape, 0, store.shape[1])
            found[name] = store[obs[FRAME], view]
        return found

    batch = batch.replace(obs=pictures(batch.obs, keys[0]), next_obs=pictures(batch.next_obs, keys[1]))
    return shifted(batch, key)


def shifted(batch: Batch, key: jax.Array) -> Batch:
    """The batch with raw pictures shifted at random (DrQ, Kostrikov et al. 2021); all else stays as it is."""

    def shift(obs: Mapping[str, Array], key: jax.Array) -> dict[str, Array]:
        raw = [name for name in sorted(obs) if obs[name].dtype == jnp.uint8]
        keys = dict(zip(raw, jax.random.split(key, max(len(raw), 1)), strict=False))
        moved = {name: random_shift(keys[name], obs[name].reshape(-1, *obs[name].shape[-3:])) for name in raw}
        return {**obs, **{name: x.reshape(obs[name].shape) for name, x in moved.items()}}

    first, second = jax.random.split(jax.random.fold_in(key, 1))
    return batch.replace(obs=shift(batch.obs, first), next_obs=shift(batch.next_obs, second))


class FrameStore:
    """A ring of pictures beside a ring of rows.

    Args:
        rows: how many the replay has.
        shapes: of what is kept of one picture, `(1 + V, ...)`, by camera.
        dtype: of what is kept.
        encode: what is kept of pictures as they come.
        on_device: where it lies.
    """

    def __init__(
        self, rows: int, shapes: Mapping[str, tuple[int, ...]], dtype: str, encode: Encode, on_device: bool
    ) -> None:
        self.capacity = room(rows)
        self.inserted = 0
        self._encode, self._on_device = encode, on_device
        zeros = jnp.zeros if on_device else np.zeros
        self.frames: dict[str, Array] = {name: zeros((self.capacity, *shape), dtype) for name, shape in shapes.items()}

    def add(self, pictures: Mapping[str, np.ndarray]) -> np.ndarray:
        """Keeps pictures `(n, H, W, 3)` by camera; their numbers `(n,)`, counted from the first one ever."""
        count = len(next(iter(pictures.values())))
        for start in range(0, count, self.capacity):
            self._add({name: x[start : start + self.capacity] for name, x in pictures.items()})
        return np.arange(self.inserted - count, self.inserted)

    def _add(self, pictures: Mapping[str, np.ndarray]) -> None:
        kept = {name: np.asarray(x) for name, x in self._encode(pictures).items()}
        count = len(next(iter(kept.values())))
        rows = (self.inserted + np.arange(count)) % self.capacity
        if self._on_device:
            pad = (1 << (count - 1).bit_length()) - count  # few programs are compiled; rows past the end are dropped
            rows = np.concatenate([rows, np.full(pad, self.capacity)])
            kept = {name: np.concatenate([x, np.zeros((pad, *x.shape[1:]), x.dtype)]) for name, x in kept.items()}
            self.frames = _scatter(self.frames, rows, kept)
        else:
            for name, x in kept.items():
                self.frames[name][rows] = x
        self.inserted += count

    @property
    def oldest(self) -> int:
        """The number of the oldest picture that is still there."""
        return max(0, self.inserted - self.capacity)

    def take(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A host batch with pictures instead of places; raw ones are not shifted yet."""

        def pictures(obs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            at, found = obs[FRAME], {name: x for name, x in obs.items() if name != FRAME}
            for name, store in self.frames.items():
                views = store.shape[1]
                place = at * views + rng.integers(0, views, at.shape)
                found[name] = np.take(store.reshape(-1, *store.shape[2:]), place, axis=0, mode="clip")
            return found

        return batch.replace(obs=pictures(batch.obs), next_obs=pictures(batch.next_obs))


def room(rows: int) -> int:
    """How many pictures a store beside so many rows holds: each row's next one, and the first one of each episode."""
    return rows + max(rows // SPARE, LEAST_SPARE)


@partial(jax.jit, donate_argnums=0)
def _scatter(frames: dict, rows: jax.Array, kept: dict) -> dict:
    return jax.tree.map(lambda store, x: store.at[rows].set(x, mode="drop"), frames, kept)
