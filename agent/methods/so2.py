"""SO2: SAC whose target looks at noisy actions, so that a peak of Q that only the policy has found counts for less.

Zhang et al. 2024 (arXiv 2312.07685), perturbed value update; their many critic updates per step are the phase's `utd`. The
actor follows the lowest critic, as their public code does.
"""

from dataclasses import replace

import jax

from agent.losses import perturbed, td_error
from agent.methods import sac_min
from agent.types import Batch, Metrics, Params, View


def critic(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`(Q(s,a) - r - gamma * mask * min_M Q_target(s', a'))^2`, `a' ~ pi(s')` with clipped noise, in the box."""
    action_key, noise_key, member_key = jax.random.split(key, 3)
    next_action, _ = view.pi(batch.next_obs).sample(action_key)
    next_action = perturbed(next_action, noise_key, view.coef["target_noise"], view.coef["noise_clip"])
    return td_error(params, view, batch, next_action, member_key)


METHOD = replace(
    sac_min.METHOD,
    losses={**sac_min.METHOD.losses, "critic": critic},
    coef={"target_noise": 0.3, "noise_clip": 0.6},
    not_offline="it fine-tunes a policy that another method has trained, and nothing in it holds a policy to a data set",
)
