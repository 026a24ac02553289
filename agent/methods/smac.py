"""SMAC: SAC whose critic's slope along the action follows the score of the data's best actions.

de Lara and Shkurti, Algorithm 1 and section 6. A diffusion model of the actions given state and outcome is learned first; at
the best outcome and the least noise it predicts a vector that points away from the data, `-sqrt(1 - signal)` times the score
(see `agent.diffusion`). `alpha(s)` scales it to Q and is free in sign: where actions nearer to the data are worth more it
is negative, and Q falls in all directions away from them. It begins at -1: at 0 neither it nor Q's slope would pull the other.
"""

import jax
import jax.numpy as jnp

from agent.diffusion import denoising
from agent.methods import sac
from agent.optim import Muon
from agent.types import Array, Batch, Method, Metrics, Params, View


def action_slope(params: Params, view: View, batch: Batch, action: jax.Array) -> jax.Array:
    """`grad_a Q_e(s, a)`, `(E, B, A)`, for actions `(B, A)`: the members side by side in one backward pass."""
    one = view.nets.modules["critic"].clone(members=1)
    obs = view.seen(batch.obs)

    def of_member(own: Array) -> jax.Array:
        own = jax.tree.map(lambda x: x[None], own)
        return jax.grad(lambda action: jnp.sum(one.apply({"params": own}, obs, action)))(action)

    return jax.vmap(of_member)(params["critic"])


def predicted_noise(view: View, obs: jax.Array, action: jax.Array) -> jax.Array:
    """`eps(s, a, 1, 1)`, `(B, A)`, of the model's slow copy, whose error is about half of its own."""
    own, rows = {"params": view.state.target["score"]}, len(action)
    return view.nets.modules["score"].apply(own, obs, action, jnp.ones(rows), jnp.ones(rows, jnp.int32))


def critic(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`TD error + kappa * E ||grad_a Q(s,a) - alpha(s) eps(s, a, 1, 1)||^2`, every other action pi's, the rest uniform."""
    td_key, policy_key, uniform_key = jax.random.split(key, 3)
    td, metrics = sac.critic(params, view, batch, td_key)
    own, _ = view.pi(batch.obs).sample(policy_key)
    uniform = jax.random.uniform(uniform_key, own.shape, minval=-1.0, maxval=1.0)
    action = jax.lax.stop_gradient(jnp.where(jnp.arange(len(own))[:, None] % 2 == 0, own, uniform))
    obs = view.seen(batch.obs)
    noise = predicted_noise(view, obs, action)
    alpha = view.apply("alpha", obs, params=params)
    error = action_slope(params, view, batch, action) - (alpha[:, None] * noise)[None]
    mismatch = jnp.mean(jnp.sum(error**2, axis=-1))
    metrics |= {"td": td, "mismatch": mismatch, "alpha": jnp.mean(alpha), "inverted": jnp.mean(alpha > 0)}
    return td + view.coef["kappa"] * mismatch, metrics


METHOD = Method(
    losses={("critic", "alpha"): critic, "actor": sac.actor, "temperature": sac.temperature},
    cadence={"actor": "once", "temperature": "once"},
    targets={"critic": "moving", "score": "held"},
    frozen=("score",),
    coef={"kappa": 40.0},
    # Table 7. A run's own rates are Adam's: a step of Muon's has another size.
    optimizer={"critic": Muon(3e-4), "actor": Muon(1e-4), "alpha": Muon(1e-4)},
    before=Method(losses={"score": denoising}, targets={"score": "moving"}),
    networks={"critic_activation": "tanh"},
    not_online="the score it follows is that of the data set, and says nothing about what the policy adds to it",
)
