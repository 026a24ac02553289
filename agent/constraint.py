"""Fine-tuning that stays near a reference policy: OCR-CFT (Luo et al. 2024), section 4.3 and appendix G.

The values that a policy follows and that a critic bootstraps from are less by `multiplier * f`, f how far the policy is from
the group `reference`; the multiplier rises while f is above a threshold. An on-policy method has an advantage added instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from agent.alignment import log_prob, reference
from agent.types import Batch, Groups, Loss, Method, Metrics, Params, View

VIOLATED, SATISFIED = 0.7, 0.3  # weights of Eq. 49
Divergence = Callable[[View, Mapping[str, jax.Array], jax.Array], jax.Array]


def log_ratio(view: View, obs: Mapping[str, jax.Array], action: jax.Array) -> jax.Array:
    """`log pi(a|s) - log pi_ref(a|s)`, `(B,)`: its mean over `a ~ pi` is the KL divergence (Eq. 36).

    Both laws are constants here, so that a gradient runs through the action alone: the rest of it has the mean 0, and this
    way it is exactly 0 while the two are the same. Many actions `(n, B, A)` give `(n, B)`.
    """
    policy, other = view.pi(obs), reference(view, obs)
    one = lambda action: log_prob(policy, action) - log_prob(other, action)  # noqa: E731
    return one(action) if action.ndim == 2 else jax.vmap(one)(action)


def squared_distance(view: View, obs: Mapping[str, jax.Array], action: jax.Array) -> jax.Array:
    """`mean_A (a - mode_ref(s))^2`, `(B,)`."""
    return jnp.mean((action - reference(view, obs).mode()) ** 2, axis=-1)


def squared_distance_of_modes(view: View, obs: Mapping[str, jax.Array], action: jax.Array) -> jax.Array:
    """The same of the policy's own mode, whatever noise the action has (Eq. 46)."""
    return squared_distance(view, obs, view.pi(obs).mode())


@dataclass(frozen=True)
class PolicyView(View):
    """What the policy follows: `Q - multiplier * f` at its own action (Eq. 37, 45)."""

    divergence: Divergence = log_ratio

    def q(self, obs, action, params=None, group="critic"):
        return _less(super().q(obs, action, params, group), self, self.divergence(self, obs, action))


@dataclass(frozen=True)
class TargetView(View):
    """What a critic bootstraps from: `Q_target - multiplier * f` at the next observation (Eq. 38, 46)."""

    divergence: Divergence = log_ratio

    def q_target(self, obs, action, key, group="critic"):
        return _less(super().q_target(obs, action, key, group), self, self.divergence(self, obs, action))


def _less(q: jax.Array, view: View, divergence: jax.Array) -> jax.Array:
    penalty = view.apply("multiplier") * divergence
    return q - penalty.reshape(*[1] * (q.ndim - penalty.ndim), *penalty.shape)


def multiplier(divergence: Divergence) -> Loss:
    """`multiplier * E[w * u]`, `u = threshold - f`, weight 0.7 where f is too large, 0.3 where it is not (Eq. 49, 39, 47)."""

    def loss(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        action, _ = view.pi(batch.obs).sample(key)
        distance = divergence(view, batch.obs, action)
        slack = view.coef["threshold"] - distance
        weight = jnp.where(slack > 0, SATISFIED, VIOLATED)
        value = view.apply("multiplier", params=params)
        return value * jnp.mean(weight * slack), {"value": value, "divergence": jnp.mean(distance)}

    return loss


def constrained(method: Method) -> Method:
    """The method with the penalty in its policy's loss and its critic's target, a multiplier and a frozen reference."""
    deterministic = method.explore is not None
    of_action = squared_distance if deterministic else log_ratio
    of_policy = squared_distance_of_modes if deterministic else log_ratio

    def through(groups: Groups, loss: Loss) -> Loss:
        if groups == "temperature":
            return loss
        kind, divergence = (PolicyView, of_action) if groups == "actor" else (TargetView, of_policy)
        return lambda params, view, batch, key: loss(
            params, kind(view.nets, view.state, view.coef, divergence), batch, key
        )

    losses: dict[Groups, Loss] = {groups: through(groups, loss) for groups, loss in method.losses.items()}
    return replace(
        method,
        losses={**losses, "multiplier": multiplier(of_policy)},
        cadence={**method.cadence, "multiplier": "once"},
        frozen=(*method.frozen, "reference"),
        coef={**method.coef, "threshold": 0.0},
    )


def auxiliary_advantage(view: View, batch: Batch) -> jax.Array:
    """`mean_A clip(log N_ref + H_ref)`, `(B,)`, `clip(x) = softplus(x + 4) - 4`: from -4 to 1/2 (Eq. 17, 48, 51).

    Of the normal law before the squashing, a dimension's `log N + H` is `(1 - z^2) / 2` for an action z std from the mean;
    the squashing's slope is no matter of which action is better.
    """
    policy = reference(view, batch.obs)
    inside = jnp.clip(batch.action, -1.0 + 1e-6, 1.0 - 1e-6)
    z = (jnp.arctanh(inside) - policy.mean) * jnp.exp(-policy.log_std)
    return jnp.mean(jax.nn.softplus((1.0 - z**2) / 2.0 + 4.0) - 4.0, axis=-1)


def with_auxiliary_advantage(method: Method) -> Method:
    """An on-policy method whose advantage is `A + beta * 2 std(A) * A_ref` (Eq. 18, appendix H.5), std over the rollout."""
    own = method.rollout
    assert own is not None

    def rollout(view: View, rows: Batch) -> Batch:
        rows = own(view, rows)
        assert rows.on_policy is not None
        advantage = rows.on_policy.advantage
        more = view.coef["beta"] * 2.0 * jnp.std(advantage) * auxiliary_advantage(view, rows)
        return rows.replace(on_policy=rows.on_policy.replace(advantage=advantage + more))

    frozen = (*method.frozen, "reference")
    return replace(method, rollout=rollout, frozen=frozen, coef={**method.coef, "beta": 1.0})
