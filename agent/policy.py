"""From parameters to actions: all that runs beside the robot."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from agent.tanh_normal import TanhNormal
from agent.types import Nets, Normalizer, Params

ActorOutput = Callable[[Params, Any], TanhNormal]


def sample(pi: TanhNormal, key: jax.Array) -> jax.Array:
    """Draws from the policy."""
    return pi.sample(key)[0]


def mode(pi: TanhNormal, key: jax.Array) -> jax.Array:
    """The policy's mode; nothing is drawn."""
    del key
    return pi.mode()


BEHAVIORS = {"sample": sample, "mode": mode}


class Policy:
    """Acts on one observation at a time.

    Args:
        nets: the run's networks; only the actor is used.
        behavior: how an action is taken from the policy's distribution.
        key: random key; each call folds its number in, so evaluation never repeats a draw.
    """

    def __init__(self, nets: Nets, behavior: Callable[[TanhNormal, jax.Array], jax.Array], key: jax.Array) -> None:
        module = nets.modules["actor"]

        def act(
            params: Params, normalizer: Normalizer, obs: Mapping[str, jax.Array], key: jax.Array, n: int
        ) -> jax.Array:
            batch = jax.tree.map(lambda x: x[None], obs)
            pi = TanhNormal(*module.apply({"params": params["actor"]}, normalizer(batch)))
            return behavior(pi, jax.random.fold_in(key, n))[0]

        self._act, self._key, self.calls = jax.jit(act), key, 0

    def __call__(self, params: Params, normalizer: Normalizer, obs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Action `(A,)` in -1..1 for one observation."""
        action = self._act(params, normalizer, dict(obs), self._key, self.calls)
        self.calls += 1
        return np.asarray(action)
