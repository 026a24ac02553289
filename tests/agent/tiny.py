"""Networks small enough to work by hand, and data to feed them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.adopt import adopt, first_state, make_nets
from agent.heads import Networks
from agent.types import Batch, Method, Nets, Normalizer, State, Transition, View

OFFSET = 100.0  # keeps a linear function on the side of the relu that passes


def tiny_nets(obs: int = 2, action: int = 1, **options: Any) -> Nets:
    """One hidden layer of 8, three critics, two per target, a learning rate that shows in one step."""
    sizes = {"actor_hidden": (8,), "critic_hidden": (8,), "critics": 3}
    networks = Networks(**{**sizes, **{k: options.pop(k) for k in list(options) if k in Networks.__dataclass_fields__}})
    return make_nets({"x": (obs,)}, action, networks, **options)


def identity(obs: int) -> Normalizer:
    """Observations as they are."""
    return Normalizer({"x": jnp.zeros(obs)}, {"x": jnp.ones(obs)})


def tiny_state(nets: Nets, method: Method, seed: int = 0) -> State:
    """A state for `method` with normal parameters and observations as they are; initialisers take long to compile."""
    obs = nets.arguments["actor"][0].shape[-1]
    everything = Method(losses={}, frozen=tuple(nets.modules))
    shapes = jax.eval_shape(lambda key: first_state(nets, everything, identity(obs), key), jax.random.key(0)).params
    leaves, structure = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    params = jax.tree.unflatten(structure, [jnp.asarray(rng.normal(0.1, 0.5, x.shape), jnp.float32) for x in leaves])
    state = State(params, {}, {}, identity(obs), jnp.int32(0), jax.random.key(seed))
    return adopt(nets, method, state, None)


def batch(
    obs: Any, action: Any, reward: Any, next_obs: Any, mask: Any = 1.0, mc_return: Any = 0.0, has_return: Any = 0.0
) -> Batch:
    """A batch from lists; single numbers hold for every row."""
    n = len(reward)
    rows = {"mask": mask, "mc_return": mc_return, "has_return": has_return}
    full = {name: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (n,)) for name, x in rows.items()}
    return Batch(
        obs={"x": jnp.asarray(obs, jnp.float32)},
        action=jnp.asarray(action, jnp.float32),
        reward=jnp.asarray(reward, jnp.float32),
        next_obs={"x": jnp.asarray(next_obs, jnp.float32)},
        source=jnp.zeros(n, jnp.int32),
        ended=jnp.zeros(n),
        outcome=jnp.zeros(n),
        **full,
    )


def random_batch(seed: int, n: int, obs: int = 2, action: int = 1) -> Batch:
    """Normal observations and rewards, uniform actions, every return known."""
    rng = np.random.default_rng(seed)
    return batch(
        rng.normal(size=(n, obs)),
        rng.uniform(-0.9, 0.9, (n, action)),
        rng.normal(size=n),
        rng.normal(size=(n, obs)),
        mask=rng.integers(0, 2, n),
        mc_return=rng.normal(size=n),
        has_return=1.0,
    )


def stacked(batches: list[Batch]) -> Batch:
    """Minibatches `(U, B, ...)`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *batches)


def linear_critics(on_obs: list[float], on_action: list[float], constant: list[float]) -> Mapping[str, jax.Array]:
    """Parameters of critics with one hidden unit and no layer norm: `Q_e = on_obs s + on_action a + constant_e`.

    One number per member in every list; s and a are scalars.
    """
    return {
        "kernel_0": jnp.stack([jnp.asarray(on_obs, jnp.float32), jnp.asarray(on_action, jnp.float32)], axis=1)[
            ..., None
        ],
        "bias_0": jnp.full((len(constant), 1), OFFSET),
        "kernel_1": jnp.ones((len(constant), 1, 1)),
        "bias_1": jnp.asarray(constant, jnp.float32)[:, None] - OFFSET,
    }


def constant_actor(mean: float, std: float) -> Mapping[str, Any]:
    """Parameters of an actor with one hidden unit, no layer norm and a vector std: the same law at every observation."""
    return {
        "Trunk_0": {"Dense_0": {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}},
        "mean": {"kernel": jnp.zeros((1, 1)), "bias": jnp.array([mean], jnp.float32)},
        "log_std": jnp.log(jnp.array([std], jnp.float32)),
    }


def hand_nets(members: int, **options: Any) -> Nets:
    """Scalar observation and action, one hidden unit, no layer norm, discount 0.5."""
    return tiny_nets(
        1,
        1,
        actor_hidden=(1,),
        critic_hidden=(1,),
        critics=members,
        members_per_target=members,
        layer_norm=False,
        std="vector",
        **{"discount": 0.5, **options},
    )


def hand_state(nets: Nets, params: Mapping[str, Any], target: Mapping[str, Any] | None = None) -> State:
    """A state of given parameters, observations as they are."""
    return State(params, target or {}, {}, identity(1), jnp.int32(0), jax.random.key(0))


@dataclass(frozen=True)
class KnownPolicy:
    """The same actions `(n, 1, A)` and the same log-density at every observation of a batch `(B,)`."""

    actions: jax.Array
    log_density: float
    rows: int

    def sample(self, key: jax.Array, n: int | None = None) -> tuple[jax.Array, jax.Array]:
        drawn = jnp.broadcast_to(self.actions, (len(self.actions), self.rows, self.actions.shape[-1]))
        density = jnp.full(drawn.shape[:2], self.log_density)
        return (drawn, density) if n is not None else (drawn[0], density[0])


@dataclass(frozen=True)
class KnownPolicyView(View):
    """A view, as a bridge may make one, whose policy is known."""

    policy: KnownPolicy | None = None

    def pi(self, obs: Mapping[str, jax.Array], params: Mapping[str, Any] | None = None) -> Any:
        return self.policy


def transition(reward: float = 0.0, end: str = "", session: int = 0, x: float = 0.0, action: float = 0.0) -> Transition:
    """A transition with a scalar observation; `end` is `terminated`, `truncated` or empty."""
    return Transition(
        obs={"x": np.array([x], np.float32)},
        action=np.array([action], np.float32),
        executed=np.array([action], np.float32),
        reward=reward,
        next_obs={"x": np.array([x + 1.0], np.float32)},
        terminated=end == "terminated",
        truncated=end == "truncated",
        session=session,
    )


def assert_same(a: Any, b: Any) -> None:
    """Bit for bit, leaf by leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Leaf by leaf within rounding."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)


def differs(a: Any, b: Any) -> bool:
    """Whether any leaf differs."""
    return any(
        not np.array_equal(np.asarray(x), np.asarray(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
