"""Carrying the state from one method to the next."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from agent.heads import Actor, Critics, Multiplier, Networks
from agent.optim import Adam, Optimizer
from agent.types import Method, Nets, Normalizer, State
from agent.update import optimizer_of


def make_nets(
    obs_shapes: Mapping[str, tuple[int, ...]],
    action_dim: int,
    networks: Networks,
    optimizer: Mapping[str, Optimizer] | None = None,
    discount: float = 0.99,
    tau: float = 0.005,
    temperature: float = 1.0,
    target_entropy: float | None = None,
) -> Nets:
    """The networks of a run.

    Args:
        obs_shapes: shape of one observation by name; vectors, which are standardised and concatenated.
        optimizer: by group, where it is not WSRL's: actor and temperature Adam 1e-4, critic Adam 3e-4.
        temperature: its initial value.
        target_entropy: nats; -action_dim where not given.
    """
    obs = jnp.zeros((1, sum(int(np.prod(shape)) for shape in obs_shapes.values())))
    action = jnp.zeros((1, action_dim))
    return Nets(
        modules={
            "actor": Actor(action_dim, networks),
            "critic": Critics(networks.critics, networks),
            "temperature": Multiplier(temperature),
        },
        arguments={"actor": (obs,), "critic": (obs, action), "temperature": ()},
        optimizer={"actor": Adam(1e-4), "critic": Adam(3e-4), "temperature": Adam(1e-4), **(optimizer or {})},
        action_dim=action_dim,
        discount=discount,
        tau=tau,
        members_per_target=networks.members_per_target,
        target_entropy=-float(action_dim) if target_entropy is None else target_entropy,
    )


def first_state(nets: Nets, method: Method, normalizer: Normalizer, key: jax.Array) -> State:
    """A fresh state for `method`: every group random, moments zero."""
    empty = State({}, {}, {}, normalizer, jnp.int32(0), key)
    return adopt(nets, method, empty, None)


def adopt(nets: Nets, method: Method, state: State, previous: Method | None, keep_moments: bool = True) -> State:
    """The state as `method` needs it.

    Groups that both methods know are kept, missing ones initialised, unused ones dropped. A group's optimiser moments are
    kept where it was trained before with an equal optimiser; a target where there was one, else it starts as a copy.

    Args:
        previous: the method that trained `state`, or None for a fresh one.
        keep_moments: False starts all moments anew.
    """
    groups = (*method.updated, *method.frozen)
    params = {
        name: state.params[name] if name in state.params else init_group(nets, name, state.key) for name in groups
    }
    opt = {}
    for name in method.updated:
        optimizer = optimizer_of(nets, method, name)
        same = previous is not None and name in state.opt and optimizer_of(nets, previous, name) == optimizer
        opt[name] = state.opt[name] if keep_moments and same else optimizer.transformation().init(params[name])
    # A target is a copy, never the same buffers: the state is donated to the training program.
    target = {name: state.target[name] if name in state.target else _copy(params[name]) for name in method.targets}
    return state.replace(params=params, target=target, opt=opt)


def init_group(nets: Nets, name: str, key: jax.Array) -> dict:
    """Random parameters of a group; its name is folded into the key."""
    own = jax.random.fold_in(key, sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**31)
    return dict(nets.modules[name].init(own, *nets.arguments[name])["params"])


def _copy(tree: dict) -> dict:
    return jax.tree.map(jnp.copy, tree)
