"""Pieces that several bridges share; no bridge itself."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from agent.types import Method, Phase, group_names

POLICY_GROUPS = ("actor", "temperature")  # all else is learned about values


def linear(start: float, end: float, steps: int) -> Callable[[Any], Any]:
    """A schedule: from one number to the other within so many environment steps, and exactly that from then on."""
    return lambda t: start + (end - start) * jnp.minimum(t / steps, 1.0)


def check_share(bridge: str, share: float) -> None:
    """Raises `ValueError` for a share that leaves one of the two sources out."""
    if not 0 < share < 1:
        raise ValueError(f"bridge {bridge!r}: offline_share is {share}; give a number between 0 and 1")


def with_share(offline_share: float) -> Mapping[str, float]:
    """A phase's shares with so much of the data set."""
    return {"offline": offline_share, "online": 1.0 - offline_share}


def check_steps(bridge: str, steps: int) -> None:
    """Raises `ValueError` for a phase without a step."""
    if steps < 1:
        raise ValueError(f"bridge {bridge!r}: steps is {steps}; give at least 1, or use the bridge 'direct'")


def after(bridge: str, steps: int, online: Phase) -> Phase:
    """The online phase with what is left of its budget after `steps`. Raises `ValueError` where nothing is."""
    if steps >= online.env_steps:
        raise ValueError(
            f"bridge {bridge!r}: {steps} steps leave nothing of the online phase's {online.env_steps}; "
            "lower them or lengthen the online phase"
        )
    return replace(online, env_steps=online.env_steps - steps)


def value_groups(method: Method) -> tuple[str, ...]:
    """The groups of a method that hold no policy: critics, values and their multipliers."""
    return tuple(name for name in method.updated if name not in POLICY_GROUPS)


def values_only(method: Method) -> Method:
    """The method with its policy frozen: only what it learns about values goes on."""
    kept = {g: loss for g, loss in method.losses.items() if not set(group_names(g)) & set(POLICY_GROUPS)}
    frozen = tuple(name for name in method.updated if name in POLICY_GROUPS)
    cadence = {g: every for g, every in method.cadence.items() if g in kept}
    return replace(method, losses=kept, cadence=cadence, frozen=(*method.frozen, *frozen))
