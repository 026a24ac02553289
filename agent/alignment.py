"""A critic is made to agree with a policy, whose action is to be its best: OCR-CFT (Luo et al. 2024), section 4.2.

The Q of the policy's action a0 stays as it is, and what lies above it elsewhere is brought down. `reference` is that policy,
and the critic's target, which is held, is the critic as it was before. Each member is aligned with itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import jax
import jax.numpy as jnp

from agent.losses import perturbed
from agent.tanh_normal import TanhNormal
from agent.types import Batch, Metrics, Params, View

LEAST_LOG_PROB = -50.0  # appendix H.3


def reference(view: View, obs: Mapping[str, jax.Array]) -> TanhNormal:
    """The action distribution of the group `reference` at `obs`."""
    return view.reading({"actor": "reference"}).pi(obs)


def log_prob(policy: TanhNormal, action: jax.Array) -> jax.Array:
    """`max(log pi(a), -50)`, `(B,)`."""
    return jnp.maximum(policy.log_prob(action), LEAST_LOG_PROB)


def align_law(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Of a policy that is sampled (Eq. 12, 13): `Q'(s,a) = Q(s,a0) - temperature * (log pi_ref(a0|s) - log pi_ref(a|s))`.

    a0 is the reference's mode and a is drawn from the policy that learns. The squashed density is highest a little further
    out than at a0: there Q' is Q(s,a0), so that no action is better than a0.
    """
    policy = reference(view, batch.obs)
    best, action = policy.mode(), view.pi(batch.obs).sample(key)[0]
    drop = view.temperature() * jnp.maximum(log_prob(policy, best) - log_prob(policy, action), 0.0)
    return _align(params, view, batch, best, action[None], lambda q: q - drop[None, None, :])


def align_mode(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Of a deterministic policy (Eq. 15, 16, 44): `Q'(s,a) = Q(s,a0) / (1 + k * d^2)`, times that where Q is negative.

    a is the learning policy's mode with the noise of the method's targets; d is the distance of a and a0 over `sqrt(A)`, at
    most that noise's std (Eq. 15 prints `max`, where text and public code limit it from above). Beside it there is a uniform
    action, which the paper has not: the noise reaches no further than its clip, and beyond it Q may stay higher.
    """
    policy_key, uniform_key = jax.random.split(key)
    best, noise = reference(view, batch.obs).mode(), view.coef["target_noise"]
    action = perturbed(view.pi(batch.obs).mode(), policy_key, noise, view.coef["noise_clip"])
    uniform = jax.random.uniform(uniform_key, best.shape, minval=-1.0, maxval=1.0)
    actions = jnp.stack([action, uniform])
    distance = jnp.minimum(jnp.mean((actions - best[None]) ** 2, axis=-1), noise**2)
    slope = (1.0 + view.coef["k"] * distance)[None]
    return _align(params, view, batch, best, actions, lambda q: jnp.where(q > 0, q / slope, q * slope))


def fit_returns(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(V(s) - G)^2` over the rows whose Monte-Carlo return G is known: an on-policy method's re-evaluation (section 4.1)."""
    v = view.v(batch.obs, params)
    error = jnp.sum(batch.has_return * (v - batch.mc_return) ** 2) / jnp.maximum(jnp.sum(batch.has_return), 1.0)
    return error, {"v": jnp.mean(v)}


def _align(
    params: Params,
    view: View,
    batch: Batch,
    best: jax.Array,
    actions: jax.Array,
    bound: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - min(bound(Q_target(s,a0)), Q_target(s,a)))^2 + (Q(s,a0) - Q_target(s,a0))^2` for actions `(n, B, A)`.

    Each is a mean over members and batch, the first over the n actions too.
    """
    every = jax.lax.stop_gradient(jnp.concatenate([best[None], actions]))
    state = view.state
    before = replace(view, state=state.replace(params={**state.params, "critic": state.target["critic"]}))
    held = before.q(batch.obs, every)
    anchor, own = held[:, :1], held[:, 1:]
    wanted = jnp.minimum(bound(anchor), own)
    q = view.q(batch.obs, every, params)
    align, retain = jnp.mean((q[:, 1:] - wanted) ** 2), jnp.mean((q[:, :1] - anchor) ** 2)
    metrics = {"align": align, "retain": retain, "q": jnp.mean(q[:, 0]), "lowered": jnp.mean(wanted < own)}
    return align + retain, metrics
