"""Conservative Q-learning: SAC whose critic also lowers Q at sampled actions and raises it at the data's.

Kumar et al. 2020, Eq. 4 (CQL(H) with importance sampling), with the backup over the best of several actions that WSRL's
public code uses offline.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.losses import calibrate, squared_td_error, td_target
from agent.methods import sac
from agent.types import Batch, Metrics, Params, View


def td_and_gap(
    params: Params, view: View, batch: Batch, key: jax.Array, calibrated: bool
) -> tuple[jax.Array, jax.Array, Metrics]:
    """The TD error and the gap `E[logsumexp_a (Q(s,a) - log density(a)) - Q(s, a_data)]`.

    The sum runs over `sampled_actions` uniform ones and as many of the policy at s and at s'. The target takes the best of
    `backup_actions` of these next actions, each under the minimum of the sampled members.
    """
    n, (b, dim) = int(view.coef["sampled_actions"]), batch.action.shape
    best_of = min(int(view.coef["backup_actions"]), n)
    keys = jax.random.split(key, 4)
    uniform = jax.random.uniform(keys[0], (n, b, dim), minval=-1.0, maxval=1.0)
    here, log_here = view.pi(batch.obs).sample(keys[1], n)
    there, log_there = view.pi(batch.next_obs).sample(keys[2], n)
    data = batch.action[None]
    q = view.q(batch.obs, jax.lax.stop_gradient(jnp.concatenate([data, uniform, here, there])), params)

    target_q = jnp.min(view.q_target(batch.next_obs, there[:best_of], keys[3]), axis=0)
    q_data, q_uniform, q_policy = q[:, 0], q[:, 1 : n + 1], q[:, n + 1 :]
    td = squared_td_error(q_data, td_target(view, batch, jnp.max(target_q, axis=0)))

    bounded = calibrate(q_policy, batch) if calibrated else q_policy
    log_density = jax.lax.stop_gradient(jnp.concatenate([log_here, log_there]))
    terms = jnp.concatenate([q_uniform + dim * jnp.log(2.0), bounded - log_density[None]], axis=1)
    gap = jnp.mean(jax.nn.logsumexp(terms, axis=1) - q_data)
    metrics = {"q": jnp.mean(q_data), "q_policy": jnp.mean(q_policy), "gap": gap, "td": td}
    if calibrated:
        metrics["bound_share"] = jnp.mean(bounded > q_policy)
    return td, gap, metrics


def critic(
    params: Params, view: View, batch: Batch, key: jax.Array, calibrated: bool = False
) -> tuple[jax.Array, Metrics]:
    """`TD error + conservative * gap`."""
    td, gap, metrics = td_and_gap(params, view, batch, key, calibrated)
    return td + view.coef["conservative"] * gap, metrics


METHOD = replace(
    sac.METHOD,
    losses={**sac.METHOD.losses, "critic": critic},
    coef={"conservative": 5.0, "sampled_actions": 10, "backup_actions": 10},
)
