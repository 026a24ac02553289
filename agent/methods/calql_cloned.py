"""Cal-QL's critic under a policy that is cloned: for data so narrow that a policy which follows Q leaves it.

The critic evaluates the behaviour's successor rather than its own maximiser, as in one-step RL (Brandfonbrener et al. 2021,
Algorithm 1, with policy extraction by behaviour cloning). The online method is what improves the policy.
"""

from dataclasses import replace

from agent.methods import bc, calql

METHOD = replace(
    calql.METHOD,
    losses={**calql.METHOD.losses, "actor": bc.actor},
    coef={**calql.METHOD.coef, **bc.METHOD.coef},
    not_online="its actor copies every action that it is given, its own too, so that acting does not improve it",
)
