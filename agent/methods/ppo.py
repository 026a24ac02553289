"""PPO: the policy climbs the advantages of its own rollout as far as its ratio to the one that acted stays near 1.

Schulman et al. 2017, Algorithm 1, with generalised advantage estimation (Schulman et al. 2016). Coefficients are the paper's
for continuous actions: Tables 1 and 3, and no entropy bonus (section 6.1). Advantages are standardised within each minibatch,
which the paper leaves out and its code does.
"""

import jax
import jax.numpy as jnp

from agent.losses import td_target
from agent.types import Batch, Method, Metrics, OnPolicy, Params, View


def gae(error: jax.Array, ended: jax.Array, decay: jax.Array | float) -> jax.Array:
    """`A_t = error_t + decay * A_{t+1}`, `(R,)`, of TD errors in order; A is 0 beyond an episode's end and the rollout's.

    With the decay gamma * lambda it is Eq. 16 of Schulman et al. 2016.
    """

    def back(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error, goes_on = now
        advantage = error + decay * goes_on * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros((), error.dtype), (error, 1.0 - ended), reverse=True)[1]


def advantage(view: View, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Advantages of a rollout's rows, and the values that they are measured against, both `(R,)`.

    Only what terminated is worth nothing afterwards: a cut episode, and the rollout's last row, bootstrap from `V(s')`.
    """
    value = view.v(batch.obs)
    error = td_target(view, batch, view.v(batch.next_obs)) - value
    return gae(error, batch.ended, view.nets.discount * view.coef["gae_lambda"]), value


def rollout(view: View, batch: Batch) -> Batch:
    """The rows with `log pi(a|s)` of the policy that took them, their advantages, and the returns `A + V`."""
    found, value = advantage(view, batch)
    log_prob = view.pi(batch.obs).log_prob(batch.action)
    return batch.replace(on_policy=OnPolicy(log_prob, found, found + value))


def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`-E[min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)] - entropy * H`, `ratio = pi(a|s) / pi_old(a|s)` (Eq. 7 and 9)."""
    assert batch.on_policy is not None
    old, clip = batch.on_policy, view.coef["clip"]
    policy = view.pi(batch.obs, params)
    change = policy.log_prob(batch.action) - old.log_prob
    ratio = jnp.exp(change)
    a = (old.advantage - jnp.mean(old.advantage)) / (jnp.std(old.advantage) + 1e-8)
    gain = jnp.mean(jnp.minimum(ratio * a, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * a))
    entropy = -jnp.mean(policy.sample(key)[1])
    clipped = jnp.mean(jnp.abs(ratio - 1.0) > clip)
    metrics = {"entropy": entropy, "kl": jnp.mean(ratio - 1.0 - change), "clipped": clipped}
    return -gain - view.coef["entropy"] * entropy, metrics


def value(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(V(s) - V_target)^2` (Eq. 9); its weight is no matter where policy and value share no parameters."""
    assert batch.on_policy is not None
    v = view.v(batch.obs, params)
    return jnp.mean((v - batch.on_policy.value_target) ** 2), {"v": jnp.mean(v)}


METHOD = Method(
    losses={"actor": actor, "value": value},
    coef={"clip": 0.2, "gae_lambda": 0.95, "entropy": 0.0},
    rollout=rollout,
    not_offline="it learns on-policy, only from what its own policy has just done",
)
