"""OCR-CFT: the critic is learned anew from the policy, made to agree with it, and the policy kept near its best self.

Luo et al. 2024, Algorithms 1 to 3. Random critics are trained on the data set with the online method's own loss while the
policy rests; then every Q above that of the policy's action is brought down (`agent.alignment`); then both learn online under
a constraint (`agent.constraint`). Of the offline result only the policy is kept, so that any method may have made it.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from agent.adopt import with_multiplier
from agent.alignment import align_law, align_mode, fit_returns
from agent.bridges.parts import check_share, linear, value_groups, values_only, with_share
from agent.constraint import constrained, with_auxiliary_advantage
from agent.types import Method, Phase, State

KL, DISTANCE = (0.125, 2.0), (0.0025, 0.01)  # thresholds at first and at last, for medium data; appendices H.3 and H.4


@dataclass(frozen=True)
class Bridge:
    """The defaults are the paper's for data of medium quality, its counts of updates in proportion: 500,000 and 500,000 after
    1,000,000 of pre-training are half of each 40,000. Its schedules take the whole run, here 20,000 steps.

    Attributes:
        reevaluation_updates: of random critics, the policy resting.
        alignment_updates: of critics and policy.
        alpha: temperature of the alignment (Eq. 11), with which online learning begins; a deterministic policy has none.
        k: how much of Q a deterministic policy's other actions lose (Eq. 15).
        threshold, threshold_end: of the constraint at first and at last; -1 is the paper's, KL 0.125 to 2 of a policy that is
            sampled, squared distance 0.0025 to 0.01 of a deterministic one (of expert data 0.005 to 0.125, 2.5e-5 to 6.25e-4).
        threshold_steps: environment steps in between.
        renew_every: environment steps between two references; 0 makes the best policy of the run's evaluations the reference.
        offline_share: fraction of each online batch from the data set; an on-policy method has none.
        beta_steps: environment steps until an on-policy method's auxiliary advantage is gone.
    """

    reevaluation_updates: int = 20_000
    alignment_updates: int = 20_000
    alpha: float = 0.2
    k: float = 1.0
    threshold: float = -1.0
    threshold_end: float = -1.0
    threshold_steps: int = 20_000
    renew_every: int = 0
    offline_share: float = 0.5
    beta_steps: int = 20_000

    def __post_init__(self) -> None:
        check_share("reconstruct", self.offline_share)
        if min(self.reevaluation_updates, self.alignment_updates, self.threshold_steps, self.beta_steps) < 1:
            raise ValueError(
                f"bridge 'reconstruct': reevaluation_updates {self.reevaluation_updates}, alignment_updates "
                f"{self.alignment_updates}, threshold_steps {self.threshold_steps}, beta_steps {self.beta_steps}; give at "
                "least 1 of each"
            )
        if not (self.alpha > 0 and self.k >= 0 and self.renew_every >= 0):
            raise ValueError(
                f"bridge 'reconstruct': alpha {self.alpha}, k {self.k}, renew_every {self.renew_every}; "
                "give an alpha above 0, the others 0 or more"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, re-evaluate, align, online under the constraint)`; of an on-policy method without the third."""
        method = online.method
        assert method is not None
        on_data = replace(online, env_steps=0, collect=None, shares={"offline": 1.0}, rollout=0)
        online = replace(
            online,
            copies={"reference": "actor"},
            renews={"reference": "actor"},
            renew_every=self.renew_every,
        )
        if method.rollout is not None:
            return offline, *self._on_policy(method, on_data, online)
        _check_critic(method)
        return offline, *self._off_policy(method, on_data, online)

    def _off_policy(self, method: Method, on_data: Phase, online: Phase) -> tuple[Phase, ...]:
        sampled = method.explore is None
        first, last = (
            own if given < 0 else given
            for given, own in zip((self.threshold, self.threshold_end), KL if sampled else DISTANCE, strict=True)
        )
        evaluate = replace(
            on_data,
            name="re-evaluate",
            method=values_only(method),
            updates=self.reevaluation_updates,
            fresh=value_groups(method),
            enter=(self._with_alpha,) if sampled else (),
        )
        align = replace(
            on_data,
            name="align",
            method=_alignment(method, self.k),
            updates=self.alignment_updates,
            copies={"reference": "actor"},
            enter=(with_new_targets,),
        )
        fine_tune = replace(
            online,
            method=constrained(method),
            shares=with_share(self.offline_share),
            coef={**online.coef, "threshold": linear(first, last, self.threshold_steps)},
            enter=(with_new_targets,),
        )
        return evaluate, align, fine_tune

    def _on_policy(self, method: Method, on_data: Phase, online: Phase) -> tuple[Phase, ...]:
        fit = replace(
            on_data,
            name="re-evaluate",
            method=replace(values_only(method), losses={"value": fit_returns}, cadence={}, rollout=None),
            updates=self.reevaluation_updates,
            fresh=("value",),
        )
        coef = {**online.coef, "beta": linear(1.0, 0.0, self.beta_steps)}
        return fit, replace(online, method=with_auxiliary_advantage(method), coef=coef)

    def _with_alpha(self, state: State) -> State:
        return with_multiplier(state, "temperature", self.alpha)


def with_new_targets(state: State) -> State:
    """The state with targets that begin as copies of what they follow."""
    return state.replace(target={name: jax.tree.map(jnp.copy, state.params[name]) for name in state.target})


def _alignment(method: Method, k: float) -> Method:
    """The policy looks for actions that Q overestimates, by its own loss, and the critic is aligned; all else rests."""
    frozen = tuple(name for name in method.updated if name not in ("actor", "critic"))
    return replace(
        method,
        losses={"actor": method.losses["actor"], "critic": align_law if method.explore is None else align_mode},
        cadence={},
        targets=dict.fromkeys(method.targets, "held"),
        frozen=(*method.frozen, *frozen, "reference"),
        coef={**method.coef, "k": k},
    )


def _check_critic(method: Method) -> None:
    """Raises `ValueError` for a method whose policy does not climb a critic: there is nothing to align it with."""
    if "critic" not in method.updated or "actor" not in method.losses:
        raise ValueError(
            "bridge 'reconstruct': the online method trains no critic and a policy of its own on it; choose sac or td3"
        )
    if method.explore is None and "temperature" not in method.losses:
        raise ValueError(
            "bridge 'reconstruct': the online method's policy clones actions of the data and has no temperature, so that no "
            "Q says how likely an action is; choose sac, td3 or an on-policy method"
        )
