"""PEX: the offline policy stays as it is, a fresh one learns beside it, and the critics choose which of the two acts.

Zhang et al. 2023, section 3.2. Each of the two proposes an action, and one is drawn with probability softmax(Q / temperature).
The fresh policy is trained by the online method, on data set and replay in equal parts; critics and values are taken over.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from agent.bridges.parts import check_share, with_share
from agent.policy import MODE
from agent.types import Behavior, Phase


def expanded(behavior: Behavior, inverse_temperature: float) -> Behavior:
    """`behavior` of the group `prior` or of the actor, drawn by softmax(inverse_temperature * min_E Q).

    Where `behavior` takes the most likely action, so does the choice: the one of higher Q.
    """

    def act(view, obs, now):
        first, second, draw = jax.random.split(now.key, 3)
        proposals = jnp.stack(
            [
                behavior.act(view.reading({"actor": "prior"}), obs, now.replace(key=first)),
                behavior.act(view, obs, now.replace(key=second)),
            ]
        )
        q = jnp.min(view.q(obs, proposals), axis=0)
        chosen = jnp.argmax(q, axis=0)
        if behavior is not MODE:
            chosen = jax.random.categorical(draw, inverse_temperature * q, axis=0)
        return jnp.where(chosen[:, None] == 0, proposals[0], proposals[1])

    return Behavior((*behavior.groups, "prior", "critic"), act)


@dataclass(frozen=True)
class Bridge:
    """The inverse temperature is of the public code.

    Attributes:
        inverse_temperature: of the choice; the larger, the more surely the action of higher Q.
        offline_share: fraction of each batch from the data set.
    """

    inverse_temperature: float = 10.0
    offline_share: float = 0.5

    def __post_init__(self) -> None:
        check_share("expansion", self.offline_share)
        if not self.inverse_temperature > 0:
            raise ValueError(
                f"bridge 'expansion': inverse_temperature is {self.inverse_temperature}; give a number above 0"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, online of both policies)`."""
        assert online.method is not None
        assert online.collect is not None
        if "critic" not in online.method.updated:
            raise ValueError("bridge 'expansion': the online method has no critic to choose by; choose another method")
        policy = partial(expanded, inverse_temperature=self.inverse_temperature)
        return offline, replace(
            online,
            method=replace(online.method, frozen=(*online.method.frozen, "prior")),
            collect=policy(online.collect),
            policy=policy,
            shares=with_share(self.offline_share),
            fresh=("actor",),
            copies={"prior": "actor"},
        )
