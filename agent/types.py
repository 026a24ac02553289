"""The types that every part of `agent` speaks. B is the batch size, A the action dimension, E the critic ensemble's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend.core import get_opaque_trace_state

from agent.optim import Optimizer
from agent.tanh_normal import TanhNormal
from encoders.trunk import Trunk

Groups = str | tuple[str, ...]
Params = Mapping[str, Any]
Metrics = dict[str, jax.Array]
Array = Any  # a jax array in a program, a numpy array on the host
SOURCES = ("policy", "human", "offline")
ENCODER = "encoder"  # the group that pictures go through, where a task has cameras


@dataclass(frozen=True)
class Transition:
    """One control step, as numpy, on its way from the arm to the replay.

    Attributes:
        obs, next_obs: observation arrays by name.
        action: `(A,)` what the policy, or the intervening human, asked for, in the policy's frame: learning uses this.
        executed: `(A,)` what the arm was sent after the safety layer, same frame: for audit.
        reward: scaled and shifted by the task.
        terminated: the task ended (success or failure); nothing follows, so no bootstrapping.
        truncated: the episode was cut (time limit, operator, fault); bootstrapping goes on.
        source: index into `SOURCES`.
        policy_version: which parameters acted.
        actor_id: which actor.
        session: random number of that actor's run; 0 where none is under way.
        sequence: its place among the transitions of that run, from 0 without a gap.
    """

    obs: Mapping[str, np.ndarray]
    action: np.ndarray
    executed: np.ndarray
    reward: float
    next_obs: Mapping[str, np.ndarray]
    terminated: bool
    truncated: bool
    source: int = 0
    policy_version: int = 0
    actor_id: int = 0
    session: int = 0
    sequence: int = 0


class OnPolicy(struct.PyTreeNode):
    """What an on-policy method works out of a rollout before it learns from it.

    Attributes:
        log_prob: `(B,)` of the action, under the policy that took it.
        advantage: `(B,)`.
        value_target: `(B,)` what the state's value is fitted to.
    """

    log_prob: Array
    advantage: Array
    value_target: Array


class Batch(struct.PyTreeNode):
    """Transitions as arrays. Also the layout of the replay, with the capacity in the place of B.

    Attributes:
        obs, next_obs: arrays `(B, ...)` by name.
        action: `(B, A)`.
        reward, mask: `(B,)`; mask is 1 - terminated.
        mc_return: `(B,)` discounted return to the end of the episode, of the same rewards.
        has_return: `(B,)` 1 where `mc_return` is known; an open episode has none.
        source: `(B,)` index into `SOURCES`.
        ended: `(B,)` 1 on the last transition of an episode, terminated, truncated or abandoned: the next row is of another.
        outcome: `(B,)` how well the whole episode went, 0..1 over its data set; 0 in a replay.
        on_policy: of a rollout.
        frames: of columns with cameras: each picture once, `(F, 1 + V, ...)` by camera, V shifted views beside each; `obs` and
            `next_obs` then hold `frame`, the picture's row. A batch has pictures instead, see `agent.replay.frames`.
        index, contrast: of a balanced replay (`agent.replay.balanced`): `(B,)` where each transition lies, for its priority;
            and as many of the data set, then of the replay, drawn evenly.
    """

    obs: Mapping[str, Array]
    action: Array
    reward: Array
    next_obs: Mapping[str, Array]
    mask: Array
    mc_return: Array
    has_return: Array
    source: Array
    ended: Array
    outcome: Array
    on_policy: OnPolicy | None = None
    frames: Mapping[str, Array] | None = None
    index: Array | None = None
    contrast: Batch | None = None


class Normalizer(struct.PyTreeNode):
    """Observation statistics, frozen when training begins and carried in every checkpoint.

    Attributes:
        mean, std: arrays by observation name, shaped like one observation; of a map of features, one number for each channel.
    """

    mean: Mapping[str, Array]
    std: Mapping[str, Array]

    def __call__(self, obs: Mapping[str, Array]) -> jax.Array:
        """Standardised and concatenated in the order of the names: `(B, D)`. Of vectors."""
        return jnp.concatenate([self.standard(name, obs[name]) for name in sorted(self.mean)], axis=-1)

    def standard(self, name: str, x: jax.Array) -> jax.Array:
        """One observation, `(B, ...)`, standardised; as it is where it has no statistics, as pictures have none."""
        if name not in self.mean:
            return x
        axes = tuple(range(x.ndim - self.mean[name].ndim))
        mean, std = (jnp.expand_dims(part[name], axes) for part in (self.mean, self.std))
        return (x - mean) / std


class State(struct.PyTreeNode):
    """All that learning changes.

    Attributes:
        params, target, opt: by group: parameters, their slow copies, optimiser moments.
        normalizer: frozen observation statistics.
        update_count: minibatches so far, `()` int32.
        key: the run's random key; draws fold `update_count` into it, so it never changes.
        priority: of each row, by source, in a balanced replay, with the `highest` there was, which rows of 0 have
    """

    params: Params
    target: Params
    opt: Mapping[str, Any]
    normalizer: Normalizer
    update_count: jax.Array
    key: jax.Array
    priority: Mapping[str, jax.Array] = struct.field(default_factory=dict)


@dataclass(frozen=True)
class Nets:
    """The networks of a run and the constants that belong to the problem, not to a method.

    Attributes:
        modules: flax module by group; a critic has a field `members`.
        arguments: example inputs by group, to initialise it.
        optimizer: optimiser by group, unless the method names another.
        action_dim: A.
        discount: gamma, per environment step.
        tau: step of the moving targets.
        members_per_target: critics drawn for each target.
        target_entropy: of the temperature, nats.
        trunk: the frozen image network that each picture goes through on arrival, where there is one.
        given: parts of a group that begin as they are given, by group and name, not at random.
    """

    modules: Mapping[str, Any]
    arguments: Mapping[str, tuple]
    optimizer: Mapping[str, Optimizer]
    action_dim: int
    discount: float
    tau: float
    members_per_target: int
    target_entropy: float
    trunk: Trunk | None = None
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """Read access to every network for a loss. Only the `params` that a call is given are differentiated."""

    nets: Nets
    state: State
    coef: Mapping[str, Any]
    # What was seen, within one loss.
    memo: list[tuple] = field(default_factory=list, repr=False, compare=False, kw_only=True)

    def reading(self, groups: Mapping[str, str]) -> View:
        """The same view with other groups in the place of some: `{"critic": "critic_on"}`, parameters and targets."""

        def moved(tree: Mapping[str, Any]) -> Params:
            return {**tree, **{name: tree[other] for name, other in groups.items() if other in tree}}

        state = self.state
        return replace(self, state=state.replace(params=moved(state.params), target=moved(state.target)))

    def apply(self, group: str, *inputs: Any, params: Params | None = None) -> Any:
        """The network of `group`, with the differentiable `params[group]` where given, else with a stop-gradient."""
        own = None if params is None else params.get(group)
        own = jax.lax.stop_gradient(self.state.params[group]) if own is None else own
        return self.nets.modules[group].apply({"params": own}, *inputs)

    def seen(self, obs: Mapping[str, jax.Array], params: Params | None = None, slow: bool = False) -> jax.Array:
        """What the networks see of `obs`, `(B, D)`: vectors standardised, pictures through the encoder.

        Differentiable in the encoder only for a loss that has it among its groups.

        Args:
            slow: with the encoder's slow copy, where there is one.
        """
        normalizer = self.state.normalizer
        if ENCODER not in self.nets.modules:
            return normalizer(obs)
        own = None if params is None else params.get(ENCODER)
        if slow and ENCODER in self.state.target:
            own = self.state.target[ENCODER]
        # Once for each observation in a trace, so that there is one backward pass too, however often a loss asks.
        trace = get_opaque_trace_state(convention="flax")
        for before, at, weights, found in self.memo:
            if at is obs and weights is own and before == trace:
                return found
        standard = {name: normalizer.standard(name, x) for name, x in obs.items()}
        found = self.apply(ENCODER, standard, params=None if own is None else {ENCODER: own})
        self.memo.append((trace, obs, own, found))
        return found

    def pi(self, obs: Mapping[str, jax.Array], params: Params | None = None) -> TanhNormal:
        """The policy's action distribution at `obs`."""
        return TanhNormal(*self.apply("actor", self.seen(obs, params), params=params))

    def q(
        self, obs: Mapping[str, jax.Array], action: jax.Array, params: Params | None = None, group: str = "critic"
    ) -> jax.Array:
        """Q of all members: `(E, B)` for actions `(B, A)`, `(E, n, B)` for `(n, B, A)`."""
        return self.apply(group, self.seen(obs, params), action, params=params)

    def q_target(
        self, obs: Mapping[str, jax.Array], action: jax.Array, key: jax.Array, group: str = "critic"
    ) -> jax.Array:
        """Target Q of `members_per_target` members drawn without replacement: `(M, B)` or `(M, n, B)`.

        Only the drawn members are evaluated (REDQ, Chen et al. 2021, Algorithm 1).
        """
        module, count = self.nets.modules[group], self.nets.members_per_target
        drawn = jax.random.choice(key, module.members, (count,), replace=False)
        members = jax.tree.map(lambda leaf: leaf[drawn], self.state.target[group])
        small: Any = module.clone(members=count)
        return small.apply({"params": members}, self.seen(obs, slow=True), action)

    def pi_target(self, obs: Mapping[str, jax.Array]) -> TanhNormal:
        """The slow copy of the policy at `obs`; of a method that names the actor among its targets."""
        module, own = self.nets.modules["actor"], self.state.target["actor"]
        return TanhNormal(*module.apply({"params": own}, self.seen(obs, slow=True)))

    def v(self, obs: Mapping[str, jax.Array], params: Params | None = None, group: str = "value") -> jax.Array:
        """The state value, `(B,)`."""
        return self.apply(group, self.seen(obs, params), params=params)

    def density_ratio(self, obs: Mapping[str, jax.Array], action: jax.Array, params: Params | None = None) -> jax.Array:
        """How much denser the replay is than the data set, `(B,)`; positive."""
        return self.apply("density", self.seen(obs, params), action, params=params)

    def temperature(self, params: Params | None = None) -> jax.Array:
        """The entropy temperature, `()`."""
        return self.apply("temperature", params=params)


Loss = Callable[[Params, View, Batch, jax.Array], tuple[jax.Array, Metrics]]
"""`(params of its groups, view, batch, key) -> (scalar, metrics)`."""

Cadence = Literal["each", "once"] | int
"""On each minibatch, once on the union of the step's minibatches, or on every n-th minibatch."""


@dataclass(frozen=True)
class Method:
    """A learning method: which group has which loss.

    Attributes:
        losses: loss by group, or by several groups that share one backward pass, in the order they are updated.
        cadence: when each entry of `losses` is updated; `each` where absent.
        targets: `moving` (tau towards the parameters after each minibatch) or `held`, by group.
        frozen: groups that are carried along but never updated.
        coef: numbers that losses read from `View.coef`; a phase may put a schedule in their place.
        optimizer: optimiser by group, where it differs from `Nets.optimizer`.
        explore: how the policy acts to learn, where its std is not trained; None samples the policy.
        before: what is learned first, from the data set alone, and then carried along as frozen groups.
        networks: fields of `Networks` that the method is made for, in place of the run's.
        cools: coefficients that fall linearly over an online phase, to this share of themselves.
        rollout: of an on-policy method, `(view, rollout (R,) in order) -> the same rows with on_policy`; None of the others.
            A bridge may wrap it to change advantages.
        not_offline, not_online: why it cannot be used there; empty where it can.
    """

    losses: Mapping[Groups, Loss]
    cadence: Mapping[Groups, Cadence] = field(default_factory=dict)
    targets: Mapping[str, Literal["moving", "held"]] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    coef: Mapping[str, float] = field(default_factory=dict)
    optimizer: Mapping[str, Optimizer] = field(default_factory=dict)
    explore: Behavior | None = None
    before: Method | None = None
    networks: Mapping[str, Any] = field(default_factory=dict)
    cools: Mapping[str, float] = field(default_factory=dict)
    rollout: Callable[[View, Batch], Batch] | None = None
    not_offline: str = ""
    not_online: str = ""

    @property
    def updated(self) -> tuple[str, ...]:
        """The groups that have a loss, in order."""
        return tuple(name for groups in self.losses for name in group_names(groups))


def group_names(groups: Groups) -> tuple[str, ...]:
    """The names in a key of `Method.losses`."""
    return (groups,) if isinstance(groups, str) else groups


@dataclass(frozen=True)
class Behavior:
    """How a phase acts. Only the groups it names travel to the actor.

    Attributes:
        groups: what `act` reads.
        act: `(view, obs with a batch of 1, moment) -> action (1, A)`; `view.coef` holds the phase's `acting`.
    """

    groups: tuple[str, ...]
    act: Callable[[View, Mapping[str, jax.Array], Moment], jax.Array]


class Moment(struct.PyTreeNode):
    """When a behaviour acts.

    Attributes:
        key: random key of this step.
        episode_key: random key of the episode, the same at each of its steps.
        step: in the episode, from 0, `()` int32.
    """

    key: jax.Array
    episode_key: jax.Array
    step: jax.Array


def _the_actor_s_own(behavior: Behavior) -> Behavior:
    return behavior


Scheduled = float | Callable[[Any], Any]
"""A number, or a function of the phase's environment step."""


def at_step(values: Mapping[str, Scheduled], step: Any) -> dict[str, Any]:
    """What numbers and schedules are at a step of their phase."""
    return {name: value(step) if callable(value) else value for name, value in values.items()}


@dataclass(frozen=True)
class Phase:
    """One stretch of an experiment, as data.

    Attributes:
        name: for logs and files.
        method: what is learned, or None for a phase that only collects.
        env_steps: environment steps to take; 0 for an offline phase.
        updates: minibatches of an offline phase; an online phase has `env_steps * utd`.
        utd: minibatches per environment step; with a rollout, passes over it.
        batch_size: transitions in a minibatch.
        collect: the behaviour that acts, or None where nothing acts.
        shares: fraction of each batch by source, constants or functions of the phase's environment step, which add up to 1:
            `offline` is the data set, `online` the replay, `human` what of the replay a human did.
        replay: `uniform` draws evenly within each source; `balanced` by priority from both as one, whatever their shares.
        coef: overrides of `Method.coef`: a number, or a function of the phase's environment step.
        acting: numbers that the behaviour reads, by name, likewise.
        fresh: groups that begin at random, whatever came before.
        copies: groups that begin as a copy of another: `{"prior": "actor"}`.
        enter: functions applied to the state once, after all that.
        optimizer: keep the moments of groups whose optimiser is the same, or reset all.
        before_updates: minibatches of what the method learns first, where no phase before has; 0: as many as the phase's own.
        rollout: environment steps that an on-policy method learns from together, `utd` times over, in minibatches; 0 for other
            methods. What is left at the phase's end, and is no whole rollout, is not learned from.
        renews: groups that become a copy of another, `{"reference": "actor"}`: whenever an evaluation was the run's best so
            far, or every `renew_every` environment steps where that is not 0.
        policy: what acts and is evaluated, made of a behaviour of the actor alone.
    """

    name: str
    method: Method | None
    env_steps: int = 0
    updates: int = 0
    utd: int = 1
    batch_size: int = 256
    collect: Behavior | None = None
    shares: Mapping[str, Scheduled] = field(default_factory=lambda: {"online": 1.0})
    replay: Literal["uniform", "balanced"] = "uniform"
    coef: Mapping[str, Scheduled] = field(default_factory=dict)
    acting: Mapping[str, Scheduled] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    enter: tuple[Callable[[State], State], ...] = ()
    optimizer: Literal["keep", "reset"] = "keep"
    before_updates: int = 0
    rollout: int = 0
    renews: Mapping[str, str] = field(default_factory=dict)
    renew_every: int = 0
    policy: Callable[[Behavior], Behavior] = _the_actor_s_own

    @property
    def minibatches(self) -> int:
        """Minibatches the phase trains on in all."""
        if self.method is None:
            return 0
        if self.rollout:
            return self.env_steps // self.rollout * self.minibatches_of(self.rollout)
        return self.updates if not self.env_steps else self.env_steps * self.utd

    def minibatches_of(self, rows: int) -> int:
        """Minibatches that a rollout of so many rows is learned from in, `utd` times over."""
        return self.utd * -(-rows // self.batch_size)

    def portion(self, waiting: int, env_steps: int) -> int:
        """How many of `waiting` environment steps to take after `env_steps` of the phase: none past the end of a rollout."""
        return min(waiting, self.rollout - env_steps % self.rollout) if self.rollout else waiting

    @property
    def minibatches_per_step(self) -> int:
        """U: of a step of the program: an environment step, or a minibatch in a phase without any and in one with rollouts."""
        return self.utd if self.env_steps and not self.rollout else 1


Bridge = Callable[[Phase, Phase], tuple[Phase, ...]]
"""`(offline, online) -> plan`: the whole experiment."""
