"""Learning from pictures: which loss trains the encoder, in any method."""

from dataclasses import replace

from agent.types import ENCODER, Groups, Method, Nets, group_names
from agent.update import optimizer_of

HOSTS = ("critic", "value", "actor")  # whose loss trains the encoder: the first that a method has


def with_encoder(nets: Nets, method: Method) -> Method:
    """The method as a run with an encoder has it; as it is where the run has none, or it was there already.

    The encoder is trained by the critic's loss (the value's, or the actor's, where there is no critic), and has a slow copy
    where that one has; every other loss reads it with its gradient stopped, as in DrQ and SERL. A method that carries a frozen
    group along, or leaves the actor as it is, leaves the encoder too: it would change what those see.
    """
    if ENCODER not in nets.modules or ENCODER in (*method.updated, *method.frozen):
        return method
    host = next((name for name in HOSTS if name in method.updated), None)
    if host is None or method.frozen or "actor" not in method.updated:
        held = {ENCODER: "held"} if host in method.targets else {}
        return replace(method, frozen=(*method.frozen, ENCODER), targets={**method.targets, **held})
    joined: dict[Groups, Groups] = {
        groups: (*group_names(groups), ENCODER) if host in group_names(groups) else groups for groups in method.losses
    }
    targets = {ENCODER: method.targets[host]} if host in method.targets else {}
    return replace(
        method,
        losses={joined[groups]: loss for groups, loss in method.losses.items()},
        cadence={joined[groups]: every for groups, every in method.cadence.items()},
        targets={**method.targets, **targets},
        optimizer={**method.optimizer, ENCODER: optimizer_of(nets, method, host)},
    )
