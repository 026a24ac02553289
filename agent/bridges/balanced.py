"""Off2On's replay: offline data stay, and are drawn the oftener the more they look like what the policy does now.

Lee et al. 2022. A network w(s,a) is trained beside the method to be the ratio of the replay's density to the data set's; a
transition is drawn in proportion to `w^(1/T)`, and new ones with the highest priority there is (`agent.replay.balanced`).
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from agent.bridges.parts import with_share
from agent.replay.balanced import halves
from agent.types import SOURCES, Batch, Metrics, Params, Phase, View


def density(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """`E_off[f*(f'(w))] - E_on[f'(w)]`, the Jensen-Shannon bound (Nguyen et al. 2008): least where w is the ratio on / off.

    `f'(w) = log(2w / (w + 1))`, `f*(f'(w)) = -log(2 / (w + 1))`.
    """
    assert batch.contrast is not None
    offline, online = halves(batch.contrast)
    w_off = view.density_ratio(offline.obs, offline.action, params)
    w_on = view.density_ratio(online.obs, online.action, params)
    loss = jnp.mean(jnp.log((w_off + 1.0) / 2.0)) - jnp.mean(jnp.log(2.0 * w_on / (w_on + 1.0)))
    return loss, {
        "offline": jnp.mean(w_off),
        "online": jnp.mean(w_on),
        "drawn_offline": jnp.mean(batch.source == SOURCES.index("offline")),
    }


def balanced(online: Phase, temperature: float) -> Phase:
    """The phase with a balanced replay."""
    assert online.method is not None
    method = replace(
        online.method,
        losses={**online.method.losses, "density": density},
        coef={**online.method.coef, "density_temperature": temperature},
    )
    return replace(online, method=method, shares=with_share(0.5), replay="balanced")


@dataclass(frozen=True)
class Bridge:
    """The default is the paper's.

    Attributes:
        temperature: T; the larger, the more evenly all are drawn.
    """

    temperature: float = 5.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"bridge 'balanced': temperature is {self.temperature}; give a number above 0")

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, online with priorities)`."""
        return offline, balanced(online, self.temperature)
