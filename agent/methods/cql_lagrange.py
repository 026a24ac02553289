"""CQL whose penalty has a learned weight: as much as keeps the gap at its target.

Kumar et al. 2020, appendix F (the Lagrange form), with the target that WSRL's public code gives for antmaze, 0.8. There the
multiplier moves once per environment step; here it shares the critic's sampled actions and moves with it.
"""

import jax

from agent.methods import cql, sac
from agent.types import Batch, Method, Metrics, Params, View


def critic(
    params: Params, view: View, batch: Batch, key: jax.Array, calibrated: bool = False
) -> tuple[jax.Array, Metrics]:
    """`TD error + multiplier * (gap - target_gap)`: the critic descends it, the multiplier climbs its second term.

    Each sees the other as a constant. The two terms cancel in the value of the loss, which is the TD error.
    """
    td, gap, metrics = cql.td_and_gap(params, view, batch, key, calibrated)
    multiplier = view.apply("conservatism", params=params)
    excess = gap - view.coef["target_gap"]
    constant = jax.lax.stop_gradient
    loss = td + constant(multiplier) * excess - multiplier * constant(excess)
    return loss, {**metrics, "multiplier": multiplier}


METHOD = Method(
    losses={("critic", "conservatism"): critic, "actor": sac.actor, "temperature": sac.temperature},
    cadence={"actor": "once", "temperature": "once"},
    targets={"critic": "moving"},
    coef={"target_gap": 0.8, "sampled_actions": 10, "backup_actions": 10},
)
