"""From parameters to actions: all that runs beside the robot."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agent.types import Behavior, Nets, Normalizer, Params, State, View

SAMPLE = Behavior(("actor",), lambda view, obs, key, step: view.pi(obs).sample(key)[0])
MODE = Behavior(("actor",), lambda view, obs, key, step: view.pi(obs).mode())
UNIFORM = Behavior(
    ("actor",),  # not read; parameters travel all the same, so that the order of publications has no hole
    lambda view, obs, key, step: jax.random.uniform(key, (1, view.nets.action_dim), minval=-1.0, maxval=1.0),
)


class PolicyParams(struct.PyTreeNode):
    """What travels from the learner to an actor.

    Attributes:
        params: the groups that the behaviour names.
        normalizer: observation statistics.
        version: minibatches behind these parameters.
    """

    params: Params
    normalizer: Normalizer
    version: int = struct.field(pytree_node=False)


def policy_params(state: State, behavior: Behavior) -> PolicyParams:
    """The part of the state that `behavior` needs."""
    return PolicyParams({g: state.params[g] for g in behavior.groups}, state.normalizer, int(state.update_count))


class Policy:
    """Acts on one observation at a time.

    Args:
        nets: the run's networks.
        behavior: how it acts.
        key: random key; each call folds its number in, so no draw is ever repeated.
    """

    def __init__(self, nets: Nets, behavior: Behavior, key: jax.Array) -> None:
        self._key, self.calls = key, 0

        def act(
            params: Params, normalizer: Normalizer, obs: Mapping, key: jax.Array, call: int, step: int
        ) -> jax.Array:
            state = State(params, {}, {}, normalizer, jnp.int32(0), key)
            batch = jax.tree.map(lambda x: x[None], obs)
            return behavior.act(View(nets, state, {}), batch, jax.random.fold_in(key, call), step)[0]

        self._act = jax.jit(act)

    def __call__(self, now: PolicyParams, obs: Mapping[str, np.ndarray], step: int) -> np.ndarray:
        """Action `(A,)` in -1..1 for one observation, at `step` of its episode."""
        action = self._act(now.params, now.normalizer, dict(obs), self._key, self.calls, step)
        self.calls += 1
        return np.asarray(action)
