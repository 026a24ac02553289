"""Carrying the state from one method to the next."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.diffusion import Denoiser
from agent.heads import Actor, Critics, DensityRatio, Multiplier, Networks, Value, inverse_softplus
from agent.optim import Adam, Optimizer
from agent.types import ENCODER, Method, Nets, Normalizer, State
from agent.update import optimizer_of
from agent.vae import VAE
from encoders.sight import Sight

# WSRL's public code.
OPTIMIZERS: Mapping[str, Optimizer] = {
    "actor": Adam(1e-4),
    "critic": Adam(3e-4),
    "value": Adam(3e-4),
    "temperature": Adam(1e-4),
    "conservatism": Adam(3e-4),
    "density": Adam(3e-4),  # Off2On's public code
    "vae": Adam(1e-3),  # SPOT
    "score": Adam(3e-4),  # IDQL's public code
    "alpha": Adam(1e-4),  # SMAC, Table 7
    "multiplier": Adam(5e-5),  # OCR-CFT's public code
}
VAE_WIDTH = 750  # SPOT's, beside critics of 256; no wider than three times the critic's, so that small runs stay small
TWINS = ("critic", "value", "conservatism")  # what is learned about values, and may be there twice: as `critic_on` too


def make_nets(
    obs_shapes: Mapping[str, tuple[int, ...]],
    action_dim: int,
    networks: Networks,
    optimizer: Mapping[str, Optimizer] | None = None,
    discount: float = 0.99,
    tau: float = 0.005,
    temperature: float = 1.0,
    target_entropy: float | None = None,
    sight: Sight | None = None,
) -> Nets:
    """The networks of a run.

    Args:
        obs_shapes: shape of one observation by name; vectors, which are standardised and concatenated.
        optimizer: by group, where it is not `OPTIMIZERS`.
        temperature: its initial value.
        target_entropy: nats; -action_dim where not given.
        sight: of a task with cameras, what it sees with.
    """
    width = sum(int(np.prod(shape)) for shape in obs_shapes.values())
    obs = jnp.zeros((1, width if sight is None else width + sight.width))
    action = jnp.zeros((1, action_dim))
    modules = {
        "actor": Actor(action_dim, networks),
        "prior": Actor(action_dim, networks),  # a policy that is kept as it was
        "reference": Actor(action_dim, networks),  # a policy that another is kept near
        "critic": Critics(networks.critics, networks),
        "value": Value(networks),
        "temperature": Multiplier(temperature),
        "conservatism": Multiplier(1.0),  # CQL's Lagrange multiplier
        "multiplier": Multiplier(1.0),  # of a constraint on the policy
        "density": DensityRatio(networks),
        "vae": VAE(action_dim, 2 * action_dim, min(VAE_WIDTH, 3 * max(networks.critic_hidden))),
        "score": Denoiser(networks),
        "alpha": Value(networks, initial=-1.0),  # SMAC's alpha(s): free in sign, at first Q falls away from the data
    }
    arguments = {
        "actor": (obs,),
        "prior": (obs,),
        "reference": (obs,),
        "critic": (obs, action),
        "value": (obs,),
        "temperature": (),
        "conservatism": (),
        "multiplier": (),
        "density": (obs, action),
        "vae": (obs, action, jnp.zeros((1, 2 * action_dim))),
        "score": (obs, action, jnp.zeros(1), jnp.ones(1, jnp.int32)),
        "alpha": (obs,),
    }
    given: dict[str, Any] = {}
    if sight is not None:
        modules[ENCODER], given[ENCODER] = sight.encoder, sight.given
        vectors = {name: jnp.zeros((1, *shape)) for name, shape in obs_shapes.items()}
        arguments[ENCODER] = ({**vectors, **sight.example()},)
    optimizers = {**OPTIMIZERS, **(optimizer or {})}

    def with_twins(groups: Mapping[str, Any]) -> dict[str, Any]:
        return {**groups, **{f"{name}_on": groups[name] for name in TWINS}}

    return Nets(
        modules=with_twins(modules),
        arguments=with_twins(arguments),
        optimizer=with_twins(optimizers),
        action_dim=action_dim,
        discount=discount,
        tau=tau,
        members_per_target=networks.members_per_target,
        target_entropy=-float(action_dim) if target_entropy is None else target_entropy,
        trunk=None if sight is None else sight.frozen_trunk,
        given=given,
    )


def with_std(state: State, std: float) -> State:
    """The state with the policy's std, before the squashing, set to one number everywhere; of several actors, each one's."""
    actor = dict(state.params["actor"])
    raw = actor["log_std"]
    if isinstance(raw, Mapping):
        actor["log_std"] = {"kernel": jnp.zeros_like(raw["kernel"]), "bias": jnp.full_like(raw["bias"], math.log(std))}
    else:
        actor["log_std"] = jnp.full_like(raw, math.log(std))
    return state.replace(params={**state.params, "actor": actor})


def with_multiplier(state: State, group: str, value: float) -> State:
    """The state with a `Multiplier` set to a number."""
    raw = jnp.full_like(state.params[group]["raw"], inverse_softplus(value))
    return state.replace(params={**state.params, group: {"raw": raw}})


def first_state(nets: Nets, method: Method, normalizer: Normalizer, key: jax.Array) -> State:
    """A fresh state for `method`: every group random, moments zero."""
    empty = State({}, {}, {}, normalizer, jnp.int32(0), key)
    return adopt(nets, method, empty, None)


def adopt(
    nets: Nets,
    method: Method,
    state: State,
    previous: Method | None,
    keep_moments: bool = True,
    fresh: Collection[str] = (),
) -> State:
    """The state as `method` needs it.

    Groups that both methods know are kept, missing ones initialised, unused ones dropped. A group's optimiser moments are
    kept where it was trained before with an equal optimiser; a target where there was one, else it starts as a copy.

    Args:
        previous: the method that trained `state`, or None for a fresh one.
        keep_moments: False starts all moments anew.
        fresh: groups that begin at random although they are known.
    """
    groups = (*method.updated, *method.frozen)
    kept = {name: getattr(state, name) for name in ("params", "target", "opt")}
    kept = {kind: {name: x for name, x in tree.items() if name not in fresh} for kind, tree in kept.items()}
    state = state.replace(**kept)
    # Another key, so that a fresh group is not what it was at the beginning of the run.
    key = jax.random.fold_in(state.key, 1)
    params = {
        name: state.params[name]
        if name in state.params
        else init_group(nets, name, key if name in fresh else state.key)
        for name in groups
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
    return {**nets.modules[name].init(own, *nets.arguments[name])["params"], **nets.given.get(name, {})}


def _copy(tree: dict) -> dict:
    return jax.tree.map(jnp.copy, tree)
