"""Cal-QL: CQL whose pessimism stops at the return of the behaviour that made the data.

Nakamoto et al. 2023, Eq. 4: Q at the policy's actions enters the penalty as `max(Q, V)`, V the Monte-Carlo return.
"""

from dataclasses import replace
from functools import partial

from agent.methods import cql

METHOD = replace(cql.METHOD, losses={**cql.METHOD.losses, "critic": partial(cql.critic, calibrated=True)})
