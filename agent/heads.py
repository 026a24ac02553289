"""The networks: actor, critic ensemble and scalar multipliers, as flax modules on flat observations `(B, D)`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from agent.layers import normed, normed_relu

# On a CPU, a layer of activations larger than this is computed action by action and again in the backward pass: a third more
# arithmetic, in the cache, is faster than waiting for memory.
CACHE_BYTES = 2**24
MIN_STD, MAX_STD = 1e-5, 10.0  # bounds of the policy's std before squashing; WSRL's public code

SET_BY_METHODS = ("critic_activation", "actors")  # fields of `Networks` that offline methods may be made for


@dataclass(frozen=True)
class Networks:
    """Sizes and kinds of the networks. The defaults are WSRL's for locomotion (256x2, 10 critics, 2 per target).

    Attributes:
        actor_hidden, critic_hidden: widths of the hidden layers.
        critics: members of the critic ensemble, E.
        members_per_target: members drawn without replacement for each target, of which the minimum is taken (REDQ).
        layer_norm: a layer norm after every hidden dense layer, before the activation.
        std: the policy's std is a function of the observation, or one learned vector.
        critic_activation: of the critic ensemble; methods that match the critic's slope want a smooth one, and set it.
        actors: policies that act as one, by the mean and variance of their mixture; methods that train several set it.
    """

    actor_hidden: tuple[int, ...] = (256, 256)
    critic_hidden: tuple[int, ...] = (256, 256)
    critics: int = 10
    members_per_target: int = 2
    layer_norm: bool = True
    std: Literal["state", "vector"] = "state"
    critic_activation: Literal["relu", "tanh"] = "relu"
    actors: int = 1

    def __post_init__(self) -> None:
        for name in ("actor_hidden", "critic_hidden"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"networks: {name} is {getattr(self, name)}; give at least one width of 1 or more")
        if self.critic_activation not in ("relu", "tanh"):
            raise ValueError(f"networks: critic_activation is {self.critic_activation!r}; give relu or tanh")
        if self.actors < 1:
            raise ValueError(f"networks: actors is {self.actors}; give at least 1")
        if self.critics % self.actors:
            raise ValueError(
                f"networks: {self.critics} critics cannot be shared out evenly among {self.actors} actors; give a multiple"
            )
        if not 1 <= self.members_per_target <= self.critics:
            raise ValueError(
                f"networks: members_per_target {self.members_per_target} is not in 1..{self.critics} (critics)"
            )


def _orthogonal(gain: float = math.sqrt(2.0)) -> nn.initializers.Initializer:
    return nn.initializers.orthogonal(gain)


class Trunk(nn.Module):
    """Hidden layers: dense, layer norm, relu. `(B, D) -> (B, H)`."""

    hidden: Sequence[int]
    layer_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=_orthogonal())(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = nn.relu(x)
        return x


class Actor(nn.Module):
    """`(B, D) -> mean, log_std`, both `(B, A)`, of a `TanhNormal`.

    Of several actors it is the normal with the mean and the variance of their mixture, before the squashing (Lee et al. 2022).
    Their parameters are those of one, stacked along a first axis.
    """

    action_dim: int
    networks: Networks

    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.networks.actors == 1:
            return self.one(obs)
        return moment_matched(*self.members(obs))

    def members(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log std of each of several actors, `(N, B, A)`."""
        shared: Any = None  # every member sees the same observations
        stacked = nn.vmap(
            Actor.one,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=shared,
            axis_size=self.networks.actors,
        )
        return stacked(self, obs)

    @nn.compact
    def one(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log std of a single actor, `(B, A)`."""
        x = Trunk(self.networks.actor_hidden, self.networks.layer_norm)(obs)
        mean = nn.Dense(self.action_dim, kernel_init=_orthogonal(1e-2), name="mean")(x)
        if self.networks.std == "state":
            log_std = nn.Dense(self.action_dim, kernel_init=_orthogonal(1e-2), name="log_std")(x)
        else:
            log_std = jnp.broadcast_to(self.param("log_std", nn.initializers.zeros, (self.action_dim,)), mean.shape)
        return mean, jnp.clip(log_std, math.log(MIN_STD), math.log(MAX_STD))


def moment_matched(mean: jax.Array, log_std: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log std, `(B, A)`, of the even mixture of N normals, `(N, B, A)`; the std within the bounds of a single one's.

    The variance is `mean_i(std_i^2) + mean_i((mean_i - mean)^2)`: no difference of large numbers.
    """
    centre = jnp.mean(mean, axis=0)
    variance = jnp.mean(jnp.exp(2.0 * log_std) + (mean - centre[None]) ** 2, axis=0)
    return centre, jnp.clip(0.5 * jnp.log(variance), math.log(MIN_STD), math.log(MAX_STD))


class Value(nn.Module):
    """`(B, D) -> (B,)`: the value of a state, about `initial` at first; as wide as a critic."""

    networks: Networks
    initial: float = 0.0

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = Trunk(self.networks.critic_hidden, self.networks.layer_norm)(obs)
        first = nn.initializers.constant(self.initial)
        return nn.Dense(1, kernel_init=_orthogonal(1e-2), bias_init=first)(x)[:, 0]


def _each_member(init: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Initialises every member of a stacked `(E, in, out)` kernel on its own."""

    def stacked(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
        return jax.vmap(lambda k: init(k, tuple(shape[1:]), dtype))(jax.random.split(key, shape[0]))

    return stacked


class Critics(nn.Module):
    """An ensemble of Q networks with stacked kernels `(E, in, out)`: one batched matrix product per layer.

    `obs (B, D)` with `action (B, A)` gives `(E, B)`; with `action (n, B, A)`, many actions for each observation, it gives
    `(E, n, B)`, and the observation's half of the first layer is computed once for all n.
    """

    members: int
    networks: Networks

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        (*lead, a), d = action.shape, obs.shape[-1]
        widths = (d + a, *self.networks.critic_hidden, 1)
        layers = [self._layer(i, *widths[i : i + 2]) for i in range(len(widths) - 1)]
        kernel, bias, *norm = layers[0]
        # Inputs are repeated per member because a batched product is fast and a product with a shared side is transposed.
        from_obs = self._repeat(obs) @ kernel[:, :d] + bias[:, None, :]

        def q(action: jax.Array) -> jax.Array:
            from_action = (self._repeat(action.reshape(-1, a)) @ kernel[:, d:]).reshape(
                self.members, -1, *from_obs.shape[1:]
            )
            x = self._activate((from_action + from_obs[:, None]).reshape(self.members, -1, from_obs.shape[-1]), *norm)
            for weight, offset, *rest in layers[1:-1]:
                x = self._activate(x @ weight + offset[:, None, :], *rest)
            weight, offset = layers[-1]
            x = x @ weight + offset[:, None, :]
            return x.reshape(self.members, *action.shape[:-1])

        activations = 4 * self.members * math.prod(lead) * max(self.networks.critic_hidden)
        if len(lead) > 1 and activations > CACHE_BYTES and jax.default_backend() == "cpu":
            return jnp.moveaxis(jax.lax.map(jax.checkpoint(q), action), 0, 1)
        return q(action)

    def _repeat(self, x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (self.members, *x.shape))

    def _layer(self, i: int, width: int, out: int) -> list[jax.Array]:
        """Kernel and bias, and scale and shift of the layer norm where one follows."""
        hidden = i < len(self.networks.critic_hidden)
        gain = math.sqrt(2.0) if hidden else 1e-2
        layer = [
            self.param(f"kernel_{i}", _each_member(_orthogonal(gain)), (self.members, width, out)),
            self.param(f"bias_{i}", nn.initializers.zeros, (self.members, out)),
        ]
        if hidden and self.networks.layer_norm:
            layer.append(self.param(f"scale_{i}", nn.initializers.ones, (self.members, out)))
            layer.append(self.param(f"shift_{i}", nn.initializers.zeros, (self.members, out)))
        return layer

    def _activate(self, x: jax.Array, *norm: jax.Array) -> jax.Array:
        if self.networks.critic_activation == "tanh":
            return jnp.tanh(normed(x, *norm) if norm else x)
        return normed_relu(x, *norm) if norm else nn.relu(x)


class DensityRatio(nn.Module):
    """`obs (B, D)`, `action (B, A)` -> `(B,)`, positive, and 1 where nothing was learned yet."""

    networks: Networks

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        return jax.nn.softplus(Critics(1, self.networks)(obs, action)[0] + math.log(math.e - 1.0))


class Multiplier(nn.Module):
    """One positive learned number, `softplus(x)`: a temperature or a Lagrange multiplier."""

    initial: float = 1.0

    @nn.compact
    def __call__(self) -> jax.Array:
        return jax.nn.softplus(self.param("raw", nn.initializers.constant(inverse_softplus(self.initial)), ()))


def inverse_softplus(value: float) -> float:
    """What softplus turns into a positive `value`."""
    return math.log(math.expm1(value))
