"""What learner and actor say to each other: single-part messages of the form of `agent.replay.record`, never pickle.

| from the actor | | from the learner | |
|---|---|---|---|
| `hello` | which stream comes, and from where | `welcome` | where to go on in it, and the run's recipe |
| records | the stream, each numbered | `status` | how far it is received and safe; the order |
| `heartbeat` | how the actor fares | `refused` | why this actor may not act |
| `bye` | it has nothing left to tell | parameters | on the other socket, the newest only |

A message has one part because a conflated socket keeps only whole parts, and because libzmq's size limit holds for a part: a
message of many parts would be gathered in memory before anyone could refuse it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cattrs
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from agent.adopt import init_group
from agent.policy import PolicyParams
from agent.replay.record import LIMIT, ArraySpec, RecordError, pack
from agent.types import ENCODER, Nets, Normalizer, Phase
from launch.orders import Order
from launch.recipe_files import structure, to_plain

HEARTBEAT_S = 0.5
SILENCE_S = 3.0  # after so long without a word the other side counts as away


@dataclass(frozen=True)
class Hello:
    """A stream comes.

    Attributes:
        session: its number.
        run: the run that it belongs to; empty while it belongs to none.
        actor_id: whose.
        replaces: the session that this actor's process had before, which is over for certain; 0 for none.
        first: the oldest record that still exists.
        acting: whether the session goes on; otherwise it is only delivered.
    """

    session: int
    run: str
    actor_id: int
    replaces: int
    first: int
    acting: bool


@dataclass(frozen=True)
class Heartbeat:
    """How an actor fares.

    Attributes:
        session: its number.
        waiting: the place in its stream at which it waits for an order, -1 where it does not wait.
        first: the oldest record that it still has.
        publication: of the parameters that it holds; 0 for none.
        waited_s: time for which the learner made it wait.
        dropped: records that a full spool lost.
    """

    session: int
    waiting: int
    first: int
    publication: int
    waited_s: float
    dropped: int


@dataclass(frozen=True)
class Bye:
    """An actor ends its session and has nothing left to tell."""

    session: int


@dataclass(frozen=True)
class Welcome:
    """The answer to a hello: which learner this is, where the stream goes on, and which run it is, with its recipe."""

    learner: int
    session: int
    next: int
    run: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """Where a session stands.

    Attributes:
        learner: number of the learner's process; another one knows nothing of what was on its way.
        session: whose.
        next: the record that the learner expects.
        safe: records before this one are in the journal and on the disk.
        resend: whether something was lost on the way, so that the stream must go on from `next`.
        order: what the actor is to do; None while the learner has no wish yet.
    """

    learner: int
    session: int
    next: int
    safe: int
    resend: bool
    order: Order | None


@dataclass(frozen=True)
class Refused:
    """Why an actor may not act, in a sentence."""

    session: int
    reason: str


Message = Hello | Heartbeat | Bye | Welcome | Status | Refused
KINDS: dict[str, type] = {kind.__name__.lower(): kind for kind in (Hello, Heartbeat, Bye, Welcome, Status, Refused)}
LOWEST = {"session": 1, "waiting": -1}  # the lowest whole number of a field, where it is not 0


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    return pack({"kind": type(message).__name__.lower(), **to_plain(message)}, {})


def decode_message(header: Mapping[str, Any]) -> Message:
    """The message of an unpacked header. Raises `RecordError` where it is none."""
    kind = KINDS.get(header["kind"])
    if kind is None:
        raise RecordError(f"message: unknown kind {header['kind']!r:.60}")
    plain = {name: value for name, value in header.items() if name not in ("kind", "version", "arrays")}
    _check_numbers(header["kind"], plain)
    try:
        return structure(plain, kind)
    except (cattrs.BaseValidationError, ValueError, TypeError) as error:
        raise RecordError(f"message: a {header['kind']} that does not read ({type(error).__name__})") from error


def _check_numbers(kind: str, plain: Mapping[str, Any]) -> None:
    """Raises `RecordError` for numbers that could not be written into the journal, or into a report, and read again."""
    for name, value in plain.items():
        if isinstance(value, dict) and name != "recipe":
            _check_numbers(kind, value)
        whole = type(value) is int
        if (whole and not LOWEST.get(name, 0) <= value < LIMIT) or (type(value) is float and not math.isfinite(value)):
            raise RecordError(f"message: a {kind} has {name!r:.60} {value}")


def encode_params(learner: int, publication: int, phase: int, now: PolicyParams) -> bytes:
    """Policy parameters as one message."""
    header = {"kind": "parameters", "learner": learner, "publication": publication, "phase": phase}
    tree = {"params": now.params, "mean": now.normalizer.mean, "std": now.normalizer.std}
    arrays = {name: np.asarray(x) for name, x in flatten_dict(tree, sep="/").items()}
    return pack({**header, "policy_version": now.version, "coef": to_plain(now.coef)}, arrays)


@dataclass(frozen=True)
class Published:
    """Policy parameters as they arrived: from which learner, the how-manieth, for which phase."""

    learner: int
    publication: int
    phase: int
    now: PolicyParams


def decode_params(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], specs: Mapping[int, Mapping[str, ArraySpec]]
) -> Published:
    """Parameters out of an unpacked message.

    Args:
        specs: dtypes and shapes of all arrays, by phase.

    Raises:
        RecordError: the message holds other arrays than the phase's behaviour names.
    """
    numbers = [header.get(name) for name in ("learner", "publication", "phase", "policy_version")]
    coef: Any = header.get("coef")
    are_numbers = isinstance(coef, dict) and all(type(x) is float and math.isfinite(x) for x in coef.values())
    if header["kind"] != "parameters" or not are_numbers or not all(type(n) is int and 0 <= n < LIMIT for n in numbers):
        raise RecordError("parameters: the message does not say which they are")
    found = {name: (x.dtype.str, x.shape) for name, x in arrays.items()}
    want = specs.get(header["phase"])
    if want is None or found != want:
        wrong = sorted(n for n in {*found, *(want or {})} if want is None or found.get(n) != want.get(n))
        raise RecordError(
            f"parameters: {(wrong or ['phase'])[0]:.60} is not what phase {header['phase']} of the run has"
        )
    tree = unflatten_dict(dict(arrays), sep="/")
    now = PolicyParams(tree["params"], Normalizer(tree["mean"], tree["std"]), header["policy_version"], coef)
    return Published(header["learner"], header["publication"], header["phase"], now)


def params_specs(
    nets: Nets, phases: tuple[Phase, ...], obs: Mapping[str, tuple[int, ...]]
) -> dict[int, dict[str, ArraySpec]]:
    """What parameter messages of a run hold, by phase: the groups that its behaviour names, and the normaliser."""
    specs = {}
    for number, phase in enumerate(phases):
        if phase.collect is None:
            continue
        key = jax.random.key(0)
        named = (*phase.collect.groups, *({ENCODER} & nets.modules.keys()))
        groups = {group: jax.eval_shape(partial(init_group, nets, group), key) for group in named}
        leaves: Any = flatten_dict({"params": groups}, sep="/")
        flat: dict[str, ArraySpec] = {name: ("<f4", tuple(x.shape)) for name, x in leaves.items()}
        specs[number] = flat | {
            f"{part}/{name}": ("<f4", shape) for part in ("mean", "std") for name, shape in obs.items()
        }
    return specs
