"""The replays of several seeds of one run, side by side on the device: all take their steps together."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.replay.dataset import ACTION_LIMIT
from agent.replay.returns import discounted_returns
from agent.types import Batch


class Rings:
    """The newest `capacity` transitions of S runs, as columns `(S, capacity, ...)`; see `Ring`, which is one of them.

    Args:
        members: S.
        capacity, obs_shapes, action_dim, discount, truncation_value: of each; see `Ring`.
    """

    def __init__(
        self,
        members: int,
        capacity: int,
        obs_shapes: Mapping[str, tuple[int, ...]],
        action_dim: int,
        discount: float,
        truncation_value: float,
    ) -> None:
        if capacity < 1 or members < 1:
            raise ValueError(f"replay: capacity is {capacity}, members {members}; give at least 1 of each")
        self.capacity, self.discount, self.truncation_value = capacity, discount, truncation_value
        self.inserted = 0
        self._open: list[tuple[list[int], list[float]]] = [([], []) for _ in range(members)]
        obs = {name: jnp.zeros((members, capacity, *shape)) for name, shape in obs_shapes.items()}
        number = partial(jnp.zeros, (members, capacity))
        self.columns = Batch(
            obs=obs,
            action=jnp.zeros((members, capacity, action_dim)),
            reward=number(),
            next_obs={name: jnp.zeros_like(x) for name, x in obs.items()},
            mask=number(),
            mc_return=number(),
            has_return=number(),
            source=number(jnp.int32),
            ended=number(),
            outcome=number(),
        )

    def __len__(self) -> int:
        return min(self.inserted, self.capacity)

    def add(
        self,
        obs: Mapping[str, np.ndarray],
        next_obs: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> None:
        """Appends n steps of every seed, at most `capacity`: observations `(S, n, ...)`, actions `(S, n, A)`, else `(S, n)`."""
        members, n = reward.shape
        columns = {
            "obs": obs,
            "action": np.clip(action, -ACTION_LIMIT, ACTION_LIMIT),
            "reward": reward,
            "next_obs": next_obs,
            "mask": 1.0 - terminated,
            "mc_return": np.zeros((members, n)),
            "has_return": np.zeros((members, n)),
            "source": np.zeros((members, n), np.int32),
            "ended": terminated | truncated,
            "outcome": np.zeros((members, n)),
        }
        rows = (self.inserted + np.arange(n)) % self.capacity
        self._write(np.arange(members)[:, None], rows[None, :], columns)
        found = [self._returns(m, reward[m], terminated[m], truncated[m]) for m in range(members)]
        self.inserted += n
        where = [(m, number % self.capacity) for m, kept in enumerate(found) for number in kept if self._has(number)]
        if where:
            values = [value for kept in found for number, value in kept.items() if self._has(number)]
            member, row = np.asarray(where).T
            self._write(member, row, {"mc_return": np.asarray(values), "has_return": np.ones(len(values))})

    def _has(self, number: int) -> bool:
        return number >= self.inserted - self.capacity

    def _returns(
        self, member: int, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
    ) -> dict[int, float]:
        """The Monte-Carlo returns, by insert number, of the episodes of a seed that these steps end."""
        numbers, rewards = self._open[member]
        found: dict[int, float] = {}
        for i in range(len(reward)):
            numbers.append(self.inserted + i)
            rewards.append(float(reward[i]))
            if terminated[i] or truncated[i]:
                tail = 0.0 if terminated[i] else self.truncation_value
                returns = discounted_returns(np.asarray(rewards), tail, self.discount)
                found |= {n: float(x) for n, x in zip(numbers, returns, strict=True)}
                numbers.clear()
                rewards.clear()
        return found

    def abandon(self) -> None:
        """Forgets the open episodes: their rows stay, without a return."""
        last = [(m, numbers[-1] % self.capacity) for m, (numbers, _) in enumerate(self._open) if numbers]
        if last:
            member, row = np.asarray(last).T
            self._write(member, row, {"ended": np.ones(len(last))})
        self._open = [([], []) for _ in self._open]

    def _write(self, member: np.ndarray, row: np.ndarray, values: Mapping[str, Any]) -> None:
        columns = {name: getattr(self.columns, name) for name in values}
        if row.ndim == 1:
            # Padded to a power of two, with rows past the end that are dropped, so that few programs are compiled.
            pad = (1 << (len(row) - 1).bit_length()) - len(row)
            row, member = (
                np.concatenate([row, np.full(pad, self.capacity)]),
                np.concatenate([member, np.zeros(pad, int)]),
            )
            values = {name: np.concatenate([x, np.zeros(pad)]) for name, x in values.items()}
        values = jax.tree.map(lambda x: np.asarray(x, np.int32 if x.dtype == np.int32 else np.float32), values)
        self.columns = self.columns.replace(**_scatter(columns, member, row, values))


@partial(jax.jit, donate_argnums=0)
def _scatter(columns: dict, member: jax.Array, row: jax.Array, values: dict) -> dict:
    return jax.tree.map(lambda column, value: column.at[member, row].set(value, mode="drop"), columns, values)
