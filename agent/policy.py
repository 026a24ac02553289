"""From parameters to actions: all that runs beside the robot."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from agent.types import ENCODER, Behavior, Method, Moment, Nets, Normalizer, Params, State, View

SAMPLE = Behavior(("actor",), lambda view, obs, now: view.pi(obs).sample(now.key)[0])
MODE = Behavior(("actor",), lambda view, obs, now: view.pi(obs).mode())
UNIFORM = Behavior(
    ("actor",),  # not read; parameters travel all the same, so that the order of publications has no hole
    lambda view, obs, now: jax.random.uniform(now.key, (1, view.nets.action_dim), minval=-1.0, maxval=1.0),
)


def noisy_mode(std: float) -> Behavior:
    """The most likely action with normal noise of that std, kept in the box (Fujimoto et al. 2018, Algorithm 1)."""

    def act(view: View, obs: Mapping[str, jax.Array], now: Moment) -> jax.Array:
        action = view.pi(obs).mode()
        return jnp.clip(action + std * jax.random.normal(now.key, action.shape), -1.0, 1.0)

    return Behavior(("actor",), act)


def exploration(method: Method) -> Behavior:
    """How a method's policy acts to learn."""
    return method.explore or SAMPLE


class PolicyParams(struct.PyTreeNode):
    """What travels from the learner to an actor.

    Attributes:
        params: the groups that the behaviour names.
        normalizer: observation statistics.
        version: minibatches behind these parameters.
        coef: the numbers that the behaviour reads.
    """

    params: Params
    normalizer: Normalizer
    version: int = struct.field(pytree_node=False)
    coef: Mapping[str, float] = struct.field(default_factory=dict)


def policy_params(state: State, behavior: Behavior, coef: Mapping[str, float] | None = None) -> PolicyParams:
    """The part of the state that `behavior` needs, and its numbers."""
    groups = (*behavior.groups, ENCODER) if ENCODER in state.params else behavior.groups
    params = {g: state.params[g] for g in groups}
    return PolicyParams(params, state.normalizer, int(state.update_count), dict(coef or {}))


class Policy:
    """Acts on one observation at a time.

    Args:
        nets: the run's networks.
        behavior: how it acts.
        key: random key; each call folds its number in, so no draw is ever repeated.
    """

    def __init__(self, nets: Nets, behavior: Behavior, key: jax.Array) -> None:
        self._key, self.calls = key, 0
        self._weights = None if nets.trunk is None else nets.trunk.weights
        self._act = jax.jit(partial(act, nets, behavior))

    def __call__(self, now: PolicyParams, obs: Mapping[str, np.ndarray], step: int) -> np.ndarray:
        """Action `(A,)` in -1..1 for one observation, at `step` of its episode."""
        action = self._act(now.params, now.normalizer, now.coef, dict(obs), self._key, self.calls, step, self._weights)
        self.calls += 1
        return np.asarray(action)


def act(
    nets: Nets,
    behavior: Behavior,
    params: Params,
    normalizer: Normalizer,
    coef: Mapping[str, jax.Array | float],
    obs: Mapping[str, jax.Array],
    key: jax.Array,
    call: jax.Array | int,
    step: jax.Array | int,
    weights: Params | None = None,
) -> jax.Array:
    """Action `(A,)` for one observation, at `step` of its episode; `call` counts the steps of all episodes.

    Both count alike, so that the episode's own number, `call - step`, stays the same while it lasts. `weights` are those of
    the frozen trunk that pictures go through, where the run has one.
    """
    obs = jax.tree.map(lambda x: x[None], obs)
    if nets.trunk is not None:
        obs = {name: nets.trunk.apply(weights, x) if x.dtype == jnp.uint8 else x for name, x in obs.items()}
    episode_key = jax.random.fold_in(jax.random.fold_in(key, call - step), 1)
    moment = Moment(jax.random.fold_in(key, call), episode_key, jnp.int32(step))
    view = View(nets, State(params, {}, {}, normalizer, jnp.int32(0), key), coef)
    return behavior.act(view, obs, moment)[0]
