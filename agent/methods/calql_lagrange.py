"""Cal-QL whose penalty has a learned weight, as WSRL's public code runs it on antmaze."""

from dataclasses import replace
from functools import partial

from agent.methods import cql_lagrange

METHOD = replace(
    cql_lagrange.METHOD,
    losses={
        **cql_lagrange.METHOD.losses,
        ("critic", "conservatism"): partial(cql_lagrange.critic, calibrated=True),
    },
)
