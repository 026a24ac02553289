"""The replay: a ring of transitions, on the device or on the host, that knows which rows make up an episode."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from agent.replay.dataset import ACTION_LIMIT
from agent.replay.frames import FRAME, FrameStore
from agent.replay.returns import discounted_returns
from agent.types import Batch, Transition
from encoders.sight import Sight


class Ring:
    """The newest `capacity` transitions as columns.

    When an episode ends, its rows get their Monte-Carlo returns; until then they have none. Rows that the ring has written
    over in the meantime are left alone.

    Args:
        capacity: transitions kept.
        obs_shapes: shape of one observation by name; of vectors.
        action_dim: A.
        discount: per step, for the returns.
        truncation_value: value of what follows an episode that was cut short.
        place: `device` draws batches inside the training program; `host` keeps numpy arrays.
        sight: of a task with cameras: what is kept of pictures. Each is kept once, and a row whose pictures were written over,
            because there were many short episodes, becomes a copy of the newest.
    """

    def __init__(
        self,
        capacity: int,
        obs_shapes: Mapping[str, tuple[int, ...]],
        action_dim: int,
        discount: float,
        truncation_value: float,
        place: Literal["device", "host"] = "device",
        sight: Sight | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"replay: capacity is {capacity}; give at least 1")
        self.capacity, self.discount, self.truncation_value = capacity, discount, truncation_value
        self.inserted = 0
        self._episodes: dict[int, tuple[list[int], list[float]]] = {}  # per session: insert numbers and rewards so far
        self.on_device = place == "device"
        obs: dict[str, np.ndarray] = {
            name: np.zeros((capacity, *shape), np.float32) for name, shape in obs_shapes.items()
        }
        self._store: FrameStore | None = None
        if sight is not None:
            self._store = FrameStore(capacity, sight.shapes, sight.dtype, sight.encode, self.on_device)
            obs[FRAME] = np.zeros(capacity, np.int32)
            self._newest: dict[int, int] = {}  # per session: the number of its newest picture
            self._needs = np.zeros(capacity, np.int64)  # by row: its first picture
        zeros = partial(np.zeros, capacity, np.float32)
        self.columns = Batch(
            obs=obs,
            action=np.zeros((capacity, action_dim), np.float32),
            reward=zeros(),
            next_obs={name: x.copy() for name, x in obs.items()},
            mask=zeros(),
            mc_return=zeros(),
            has_return=zeros(),
            source=np.zeros(capacity, np.int32),
            ended=zeros(),
            outcome=zeros(),
        )
        if self.on_device:
            self.columns = jax.tree.map(jnp.array, self.columns)
            if self._store is not None:
                self.columns = self.columns.replace(frames=self._store.frames)

    def __len__(self) -> int:
        return min(self.inserted, self.capacity)

    def add(self, transitions: Sequence[Transition]) -> None:
        """Appends transitions, each session's in its own order."""
        for start in range(0, len(transitions), self.capacity):
            self._add(transitions[start : start + self.capacity])

    def _add(self, transitions: Sequence[Transition]) -> None:
        rows = (self.inserted + np.arange(len(transitions))) % self.capacity
        values = _stack(transitions, self.columns.obs.keys())
        if self._store is not None:
            first, following = self._keep_pictures(self._store, transitions)
            self._needs[rows] = first
            places = (first % self._store.capacity, following % self._store.capacity)
            for part, at in zip(("obs", "next_obs"), places, strict=True):
                values[part] = {**values[part], FRAME: at.astype(np.int32)}
        self._write(rows, values)
        returns: dict[int, float] = {}
        for t in transitions:
            numbers, rewards = self._episodes.setdefault(t.session, ([], []))
            numbers.append(self.inserted)
            rewards.append(t.reward)
            self.inserted += 1
            if t.terminated or t.truncated:
                tail = 0.0 if t.terminated else self.truncation_value
                returns |= zip(numbers, discounted_returns(np.asarray(rewards), tail, self.discount), strict=True)
                del self._episodes[t.session]
        kept = {n: value for n, value in returns.items() if n >= self.inserted - self.capacity}
        if kept:
            found = np.asarray(list(kept.values()), np.float32)
            known = {"mc_return": found, "has_return": np.ones_like(found)}
            self._write(np.asarray(list(kept)) % self.capacity, known)
        if self._store is not None:
            self._replace_blind(self._store, values)

    def _keep_pictures(self, store: FrameStore, transitions: Sequence[Transition]) -> tuple[np.ndarray, np.ndarray]:
        """Puts the pictures of transitions into the store; the numbers `(n,)` of each one's first and of its next picture."""
        cameras, pictures, first, following = list(store.frames), [], [], []
        number = store.inserted
        open_sessions = set(self._episodes)
        for t in transitions:
            if t.session not in open_sessions:
                pictures.append(t.obs)
                self._newest[t.session], number = number, number + 1
            pictures.append(t.next_obs)
            first.append(self._newest[t.session])
            following.append(number)
            self._newest[t.session], number = number, number + 1
            (open_sessions.discard if t.terminated or t.truncated else open_sessions.add)(t.session)
        store.add({name: np.stack([obs[name] for obs in pictures]) for name in cameras})
        if self.on_device:
            self.columns = self.columns.replace(frames=store.frames)
        return np.asarray(first), np.asarray(following)

    def _replace_blind(self, store: FrameStore, values: Mapping) -> None:
        """Rows whose first picture was written over become copies of the newest row."""
        blind = np.flatnonzero(self._needs[: len(self)] < store.oldest)
        if len(blind):
            newest = jax.tree.map(lambda x: np.repeat(x[-1:], len(blind), axis=0), dict(values))
            self._needs[blind] = self._needs[(self.inserted - 1) % self.capacity]
            self._write(blind, newest)

    def abandon(self, session: int) -> None:
        """Forgets an open episode (its actor is gone, or a part of it was lost): its rows stay, without a return."""
        numbers, _ = self._episodes.pop(session, ([], []))
        if numbers and numbers[-1] >= self.inserted - self.capacity:
            self._write(np.asarray(numbers[-1:]) % self.capacity, {"ended": np.ones(1, np.float32)})

    def begin_at(self, inserted: int) -> None:
        """Empties the ring, to be filled again from insert number `inserted` on, each row in the place that it had."""
        self.inserted = inserted
        self._episodes.clear()

    def _write(self, rows: np.ndarray, values: Mapping) -> None:
        columns = {name: getattr(self.columns, name) for name in values}
        if self.on_device:
            # Padded to a power of two, with rows past the end that are dropped, so that few programs are compiled.
            pad = (1 << (len(rows) - 1).bit_length()) - len(rows)
            rows = np.concatenate([rows, np.full(pad, self.capacity)])
            values = jax.tree.map(lambda x: np.concatenate([x, np.zeros((pad, *x.shape[1:]), x.dtype)]), values)
            columns = _scatter(columns, rows, values)
        else:
            jax.tree.map(lambda column, value: column.__setitem__(rows, value), columns, values)
        self.columns = self.columns.replace(**columns)

    def take(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Rows `indices (...)` as new numpy arrays, which the device may keep. Of a host ring; `rng` picks views."""
        found = jax.tree.map(lambda x: np.take(x, indices, axis=0, mode="clip"), self.columns)
        return found if self._store is None else self._store.take(found, rng)

    @property
    def frame_bytes(self) -> int:
        """Memory that pictures take."""
        return 0 if self._store is None else sum(x.nbytes for x in self._store.frames.values())


@partial(jax.jit, donate_argnums=0)
def _scatter(columns: dict, rows: jax.Array, values: dict) -> dict:
    return jax.tree.map(lambda column, value: column.at[rows].set(value, mode="drop"), columns, values)


def _stack(transitions: Sequence[Transition], names: Collection[str]) -> dict:
    """Columns of transitions; of their observations, those of these names."""

    def column(name: str, kind: type = np.float32) -> np.ndarray:
        return np.asarray([getattr(t, name) for t in transitions], kind)

    def named(name: str) -> dict[str, np.ndarray]:
        keys = [key for key in getattr(transitions[0], name) if key in names]
        return {k: np.asarray([getattr(t, name)[k] for t in transitions], np.float32) for k in keys}

    nothing = np.zeros(len(transitions), np.float32)
    return {
        "obs": named("obs"),
        "action": np.clip(column("action"), -ACTION_LIMIT, ACTION_LIMIT),
        "reward": column("reward"),
        "next_obs": named("next_obs"),
        "mask": 1.0 - column("terminated"),
        "mc_return": nothing,
        "has_return": nothing,
        "source": column("source", np.int32),
        "ended": np.maximum(column("terminated"), column("truncated")),
        "outcome": nothing,
    }
