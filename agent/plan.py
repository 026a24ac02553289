"""From an offline method, a bridge and an online method to a plan that can be run, or a reason why not."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from agent.policy import MODE, SAMPLE, exploration
from agent.replay.mixture import HUMAN, counts
from agent.types import Behavior, Method, Phase, at_step


def plan(offline: Phase, bridge: Callable[[Phase, Phase], tuple[Phase, ...]], online: Phase) -> tuple[Phase, ...]:
    """The phases of an experiment, checked.

    Raises:
        ValueError: one sentence that names the phase, what was found and what to do.
    """
    phases = prepared(bridge(offline, online))
    if not phases:
        raise ValueError(f"bridge {bridge!r} returned no phase; return at least the online one")
    collected = False
    for phase in phases:
        check_phase(phase, collected)
        collected |= phase.env_steps > 0
    known = {group for phase in phases for group in _groups(phase.method)}
    for phase in phases:
        for group in (*(phase.collect.groups if phase.collect else ()), *phase.copies.values(), *phase.renews.values()):
            if group not in known:
                raise ValueError(
                    f"phase {phase.name!r} acts with group {group!r}, which no method of the plan has; choose another method"
                )
    tested = {group for behavior in acting(phases).values() for group in behavior.groups}
    for phase in phases:
        missing = tested - set(phase.collect.groups if phase.collect else tested)
        if missing:
            raise ValueError(
                f"phase {phase.name!r} acts without group {min(missing)!r}, which the plan's policy needs to be evaluated; "
                "name it in the phase's behaviour"
            )
    return phases


def acting(phases: Sequence[Phase]) -> dict[Literal["mode", "sample"], Behavior]:
    """How the policy that a plan ends with is evaluated: by its most likely action, and as it acts to learn."""
    policy, method = phases[-1].policy, phases[-1].method
    return {"mode": policy(MODE), "sample": policy(SAMPLE if method is None else exploration(method))}


def prepared(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases, each after one in which its method first learns what it needs, unless a phase before has left that."""
    found: list[Phase] = []
    carried: Method | None = None
    for phase in phases:
        method = phase.method
        known = _groups(carried)
        if method is not None and method.before is not None and not set(method.before.updated) <= set(known):
            # Where phases before have only collected, what acted there is the method's own, and stays.
            others = method if carried is None and found else carried
            first = replace(
                method.before,
                frozen=tuple(name for name in _groups(others) if name not in method.before.updated),
                targets={**dict.fromkeys(() if others is None else others.targets, "held"), **method.before.targets},
                explore=method.explore,
            )
            updates = phase.before_updates or phase.minibatches
            found.append(Phase("before", first, updates=updates, batch_size=phase.batch_size, shares={"offline": 1.0}))
        found.append(phase)
        carried = method or carried
    return tuple(found)


def with_human_share(phases: Sequence[Phase], share: float) -> tuple[Phase, ...]:
    """The phases with so much of each batch from what humans did online (HIL-SERL's second buffer); the replay gives it up.

    Raises:
        ValueError: a phase has no room for it, or draws in another way.
    """
    if not 0 <= share < 1:
        raise ValueError(f"human share {share}: give a number from 0, below 1")
    return tuple(_with_human_share(phase, share) for phase in phases) if share else tuple(phases)


def _with_human_share(phase: Phase, share: float) -> Phase:
    room = float(at_step(phase.shares, 0).get("online", 0.0))
    if phase.method is None or not phase.env_steps or not room:
        return phase
    reasons = {
        "its shares change with the step": any(map(callable, phase.shares.values())),
        "it draws by priority": phase.replay == "balanced",
        "it learns on-policy": phase.method.rollout is not None,
        f"the whole replay has {room:g} of it": share >= room,
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    if found is not None:
        raise ValueError(
            f"phase {phase.name!r}: {share:g} of each batch is to be what humans did, but {found}; choose a smaller share, or "
            "another bridge or method"
        )
    return replace(phase, shares={**phase.shares, "online": room - share, HUMAN: share})


def _groups(method: Method | None) -> tuple[str, ...]:
    return () if method is None else (*method.updated, *method.frozen)


def check_phase(phase: Phase, collected: bool = False) -> None:
    """Raises `ValueError` where a phase cannot be run; `collected` says that an earlier one has filled the replay."""
    where = f"phase {phase.name!r}"
    if min(phase.env_steps, phase.updates, phase.before_updates) < 0 or min(phase.utd, phase.batch_size) < 1:
        raise ValueError(
            f"{where}: a count is negative or a batch empty; give env_steps, updates >= 0, utd, batch_size >= 1"
        )
    if phase.env_steps and phase.updates:
        raise ValueError(f"{where}: has both env_steps and updates; an online phase makes env_steps x utd updates")
    if not phase.env_steps and not phase.updates:
        raise ValueError(f"{where}: has neither env_steps nor updates; give it one of them")
    if phase.env_steps and phase.collect is None:
        raise ValueError(f"{where}: takes {phase.env_steps} environment steps but nothing acts; give it a behaviour")
    if phase.method is None:
        return
    if phase.method.rollout is not None:
        check_on_policy(phase)
    for source in phase.shares:
        if source not in ("offline", "online", HUMAN):
            raise ValueError(f"{where}: its shares name {source!r}; the sources are offline, online and human")
    for step in (0, phase.env_steps // 2, phase.env_steps):
        shares = {source: float(share) for source, share in at_step(phase.shares, step).items()}
        if not abs(sum(shares.values()) - 1.0) <= 1e-6 or min(shares.values()) < 0:
            raise ValueError(f"{where}: shares {shares} do not add up to 1; correct them")
    if not phase.env_steps and not collected and set(phase.shares) != {"offline"}:
        raise ValueError(f"{where}: trains offline on {dict(phase.shares)}; give it shares of the data set only")
    if phase.replay == "balanced" and set(phase.shares) != {"offline", "online"}:
        raise ValueError(f"{where}: a balanced replay draws from the data set and the replay; give it shares of both")
    drawn = counts(phase.shares, phase.batch_size)
    lost = [source for source, share in phase.shares.items() if share and source not in drawn]
    if lost:
        raise ValueError(
            f"{where}: a batch of {phase.batch_size} holds no transition of the share {lost[0]!r}; make it larger"
        )
    check_method(phase.method, where)
    for name in phase.coef:
        if name not in phase.method.coef:
            known = ", ".join(sorted(phase.method.coef)) or "none"
            raise ValueError(f"{where}: its method has no coefficient {name!r}; it has {known}")
    for name, value in {**phase.method.coef, **phase.coef}.items():
        count = name.endswith("_actions")
        if count and callable(value):
            raise ValueError(f"{where}: coefficient {name} is a schedule; a count decides shapes, so give one number")
        if not callable(value) and not (math.isfinite(value) and value >= count and (not count or value == int(value))):
            wanted = "a whole number of 1 or more" if count else "a finite number of 0 or more"
            raise ValueError(f"{where}: coefficient {name} is {value}; give {wanted}")


def check_on_policy(phase: Phase) -> None:
    """Raises `ValueError` where a phase of an on-policy method learns from anything but rollouts of its own policy."""
    where = f"phase {phase.name!r}"
    reasons = {
        "acts otherwise": phase.env_steps and phase.collect != SAMPLE,
        "draws by priority": phase.replay == "balanced",
        "draws from a data set": set(phase.shares) != {"online"},
        "takes no steps": not phase.env_steps,
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    if found is not None:
        raise ValueError(
            f"{where}: its method learns on-policy, only from what its own policy has just done, and this phase {found}; "
            "choose another bridge or online method"
        )
    if not phase.batch_size <= phase.rollout <= phase.env_steps:
        raise ValueError(
            f"{where}: a rollout of {phase.rollout} steps does not hold a minibatch of {phase.batch_size}, or does not fit the "
            f"phase's {phase.env_steps} steps; give a block between the two"
        )


def check_method(method: Method, where: str = "method") -> None:
    """Raises `ValueError` where a method's table contradicts itself."""
    for name in () if method.before is None else method.before.updated:
        if name not in method.frozen:
            raise ValueError(f"{where}: {name!r} is learned before, and not carried along; name it in frozen")
    for name in method.cools:
        if name not in method.coef:
            raise ValueError(f"{where}: cools names {name!r}, which is no coefficient of the method; correct the name")
    updated = method.updated
    twice = {name for name in updated if updated.count(name) > 1}
    if twice:
        raise ValueError(f"{where}: group {min(twice)!r} has two losses; join them into one")
    both = set(updated) & set(method.frozen)
    if both:
        raise ValueError(f"{where}: group {min(both)!r} is frozen and has a loss; drop one of the two")
    for groups in method.cadence:
        if groups not in method.losses:
            raise ValueError(f"{where}: cadence names {groups!r}, which has no loss; correct the name")
    for group in method.targets:
        if group not in (*updated, *method.frozen):
            raise ValueError(f"{where}: targets names {group!r}, which is no group of the method; correct the name")
