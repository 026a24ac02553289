"""OPT: a second critic is made ready, by meta-learning, for data that change, and takes over from the first.

Shin et al. 2025, Algorithm 1. The frozen policy collects; a random critic `critic_on` is trained on data set and replay by the
meta-adaptation objective (Eq. 3); then both learn online, and the policy follows a mixture of the two (Eq. 4). What else a
method learns about values is there twice too (IQL's `value`: Eq. 8 and 9).
"""

from dataclasses import dataclass, replace

import jax

from agent.bridges.balanced import balanced
from agent.bridges.parts import after, check_steps, linear, value_groups, with_share
from agent.replay.balanced import halves
from agent.types import Batch, Groups, Loss, Method, Metrics, Params, Phase, View, group_names


class Mixture(View):
    """A view whose values are `(1 - kappa)` times the first critic's plus `kappa` times the second's, member by member."""

    def q(self, obs, action, params=None, group="critic"):
        return self._mix(super().q(obs, action, params, group), super().q(obs, action, params, f"{group}_on"))

    def q_target(self, obs, action, key, group="critic"):
        """Of the same members of both."""
        return self._mix(super().q_target(obs, action, key, group), super().q_target(obs, action, key, f"{group}_on"))

    def v(self, obs, params=None, group="value"):
        return self._mix(super().v(obs, params, group), super().v(obs, params, f"{group}_on"))

    def _mix(self, first: jax.Array, second: jax.Array) -> jax.Array:
        kappa = self.coef["kappa"]
        return (1.0 - kappa) * first + kappa * second


def mixed(loss: Loss) -> Loss:
    """A policy's loss that sees the mixture (Eq. 4, Eq. 9 with kappa as everywhere else: see errata in docs/fidelity.md)."""
    return lambda params, view, batch, key: loss(params, Mixture(view.nets, view.state, view.coef), batch, key)


def second(loss: Loss, names: tuple[str, ...]) -> Loss:
    """A loss about values, of the second set of them."""

    def of_second(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        own = {name.removesuffix("_on"): x for name, x in params.items()}
        return loss(own, view.reading({name: f"{name}_on" for name in names}), batch, key)

    return of_second


def adapting(loss: Loss) -> Loss:
    """`L_off(psi) + L_on(psi - inner_step * grad L_off(psi))` (Eq. 3), each on its half of the batch, through the gradient."""

    def adaptation(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        offline, online = halves(batch)
        first_key, second_key = jax.random.split(key)
        (before, metrics), slope = jax.value_and_grad(loss, has_aux=True)(params, view, offline, first_key)
        adapted = jax.tree.map(lambda p, g: p - view.coef["inner_step"] * g, params, slope)
        after, _ = loss(adapted, view, online, second_key)
        return before + after, {**metrics, "offline": before, "adapted": after}

    return adaptation


@dataclass(frozen=True)
class Bridge:
    """The defaults are the paper's (appendix H) for runs of 20,000 steps where its own have 300,000: there N_tau is 25,000,
    N_pretrain twice that, and the decay takes 150,000 steps (`-medium-replay`) of the 275,000 that are left.

    Attributes:
        steps: N_tau, environment steps of the frozen policy; they count out of the online phase's budget.
        updates: N_pretrain, of the second critic.
        inner_step: alpha of Eq. 3, which the paper does not give; here the critic's learning rate.
        kappa, kappa_end: weight of the second critic at first and at last.
        kappa_steps: environment steps in between.
        temperature: of the balanced replay.
    """

    steps: int = 5_000
    updates: int = 10_000
    inner_step: float = 3e-4
    kappa: float = 0.1
    kappa_end: float = 0.9
    kappa_steps: int = 7_500
    temperature: float = 5.0

    def __post_init__(self) -> None:
        check_steps("pretrain", self.steps)
        if not (0 <= self.kappa <= 1 and 0 <= self.kappa_end <= 1 and self.inner_step >= 0):
            raise ValueError(
                f"bridge 'pretrain': kappa {self.kappa}, kappa_end {self.kappa_end}, inner_step {self.inner_step}; "
                "give weights from 0 to 1 and a step of 0 or more"
            )
        if self.updates < 1 or self.kappa_steps < 1 or not self.temperature > 0:
            raise ValueError(
                f"bridge 'pretrain': updates {self.updates}, kappa_steps {self.kappa_steps}, temperature "
                f"{self.temperature}; give counts of at least 1 and a temperature above 0"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, collect, pre-train the second critic, online with both)`."""
        rest = after("pretrain", self.steps, online)
        assert online.method is not None
        names = value_groups(online.method)
        kappa = linear(self.kappa, self.kappa_end, self.kappa_steps)
        both = replace(rest, method=_with_both(online.method, names), coef={**online.coef, "kappa": kappa})
        collect = Phase("collect", None, env_steps=self.steps, collect=online.collect)
        pretrain = Phase(
            "pretrain",
            _second_alone(online.method, names, self.inner_step),
            updates=self.updates,
            batch_size=2 * online.batch_size,
            shares=with_share(0.5),
            coef=online.coef,
            fresh=tuple(f"{name}_on" for name in names),
        )
        return offline, collect, pretrain, balanced(both, self.temperature)


def _renamed(groups: Groups, names: tuple[str, ...]) -> Groups:
    found = tuple(f"{name}_on" if name in names else name for name in group_names(groups))
    return found[0] if isinstance(groups, str) else found


def _about_values(method: Method, names: tuple[str, ...]) -> dict[Groups, Loss]:
    return {groups: loss for groups, loss in method.losses.items() if set(group_names(groups)) <= set(names)}


def _second_alone(method: Method, names: tuple[str, ...], inner_step: float) -> Method:
    """Only the second set of values learns; all else stays."""
    losses = {_renamed(g, names): adapting(second(loss, names)) for g, loss in _about_values(method, names).items()}
    targets = {f"{name}_on": how for name, how in method.targets.items() if name in names}
    return replace(
        method,
        losses=losses,
        cadence={},
        targets={**dict.fromkeys(method.targets, "held"), **targets},
        frozen=(*method.updated, *method.frozen),
        coef={**method.coef, "inner_step": inner_step},
    )


def _with_both(method: Method, names: tuple[str, ...]) -> Method:
    """Both sets of values learn, each from its own target, and the policy follows their mixture."""
    about_values = _about_values(method, names)
    twice = {_renamed(g, names): second(loss, names) for g, loss in about_values.items()}
    once = {g: loss if g in about_values else mixed(loss) for g, loss in method.losses.items()}
    cadence = {_renamed(g, names): every for g, every in method.cadence.items() if g in about_values}
    return replace(
        method,
        losses={**once, **twice},
        cadence={**method.cadence, **cadence},
        targets={**method.targets, **{f"{name}_on": how for name, how in method.targets.items() if name in names}},
        coef={**method.coef, "kappa": 0.5},
    )
