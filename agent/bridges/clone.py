"""Any policy at all is cloned into a policy of ours, which OCR-CFT then takes online.

Luo et al. 2024, appendix I: all that it takes from pre-training is a policy, and one that is no network of ours, or none that
can be trained any further, is one by cloning its actions on the data set's observations (Eq. 52).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent.bridges import reconstruct
from agent.losses import log_likelihood
from agent.types import Batch, Loss, Method, Metrics, Params, Phase, View

ForeignPolicy = Callable[[Mapping[str, np.ndarray]], Any]
"""`obs (B, ...) by name -> actions (B, A)` in -1..1, in Python: of any library, a table, a script."""


def cloning(policy: ForeignPolicy | None, deterministic: bool) -> Loss:
    """`E[-log pi(a|s)] - entropy * H(pi)`, a the policy's action (Eq. 52); of a deterministic method `E[(mode - a)^2]`.

    Without a foreign policy it is the group `prior`, sampled where the new one is going to be.
    """

    def actor(params: Params, view: View, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        prior_key, own_key = jax.random.split(key)
        if policy is None:
            prior = view.reading({"actor": "prior"}).pi(batch.obs)
            action = prior.mode() if deterministic else prior.sample(prior_key)[0]
        else:
            action = _asked(policy, batch)
        own = view.pi(batch.obs, params)
        error = jnp.mean((own.mode() - action) ** 2)
        if deterministic:
            return error, {"squared_error": error}
        entropy = -jnp.mean(own.sample(own_key)[1])
        loss = -jnp.mean(log_likelihood(own, action)) - view.coef["entropy"] * entropy
        return loss, {"squared_error": error, "entropy": entropy}

    return actor


def _asked(policy: ForeignPolicy, batch: Batch) -> jax.Array:
    shape = batch.action.shape

    def call(obs: Mapping[str, jax.Array]) -> np.ndarray:
        actions = np.asarray(policy({name: np.asarray(x) for name, x in obs.items()}), np.float32)
        if actions.shape != shape or not np.isfinite(actions).all():
            what = f"actions {actions.shape}" if actions.shape != shape else "an action that is no finite number"
            raise ValueError(f"bridge 'clone': the policy gave {what}; it has to give finite ones, {shape}")
        return np.clip(actions, -1.0, 1.0)

    return jax.pure_callback(call, jax.ShapeDtypeStruct(shape, jnp.float32), batch.obs, vmap_method="sequential")


@dataclass(frozen=True)
class Bridge(reconstruct.Bridge):
    """As `reconstruct`, after the cloning.

    Attributes:
        policy: what is cloned, then in the place of the offline phase; None clones the pre-trained policy.
        clone_updates: of the clone, which begins at random.
        entropy: lambda of Eq. 52, which the paper does not give; below 1. A normal law's variance is `1 / (1 - entropy)`
            times as large as its error.
    """

    policy: ForeignPolicy | None = None
    clone_updates: int = 20_000
    entropy: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy is not None and not callable(self.policy):
            raise ValueError(
                f"bridge 'clone': policy is {self.policy!r}; give a function of observations in Python, or none"
            )
        if self.clone_updates < 1 or not 0 <= self.entropy < 1:
            raise ValueError(
                f"bridge 'clone': clone_updates {self.clone_updates}, entropy {self.entropy}; give at least 1 update and an "
                "entropy weight from 0, below 1"
            )

    def __call__(self, offline: Phase, online: Phase) -> tuple[Phase, ...]:
        """`(offline, clone, re-evaluate, align, online under the constraint)`, without the first where a policy is given."""
        assert online.method is not None
        explore = online.method.explore
        own = self.policy is None
        clone = replace(
            offline,
            name="clone",
            method=Method(
                losses={"actor": cloning(self.policy, explore is not None)},
                frozen=("prior",) if own else (),
                coef={"entropy": self.entropy},
                optimizer={name: x for name, x in online.method.optimizer.items() if name == "actor"},
                explore=explore,
            ),
            updates=self.clone_updates,
            coef={},
            before_updates=0,
            fresh=("actor",),
            copies={"prior": "actor"} if own else {},
        )
        phases = super().__call__(clone, online)
        return (offline, *phases) if own else phases
