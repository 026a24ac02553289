"""Entries: what an actor tells, and what each kind of record holds.

A frame that two transitions share is stored once: a transition's record carries its `next_obs`, and its `obs` only where it is
the first of an episode, or the first after something was lost.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.replay.record import LIMIT, MAX_HEADER_BYTES, PREFIX, ArraySpec, RecordError, pack, unpack
from agent.types import SOURCES, Transition

EVALUATED = ("mode", "sample")  # the ways of acting that an evaluation scores


@dataclass(frozen=True)
class Layout:
    """What the transitions of a task hold.

    Attributes:
        obs: dtype and shape by observation name.
        action_dim: A.
        action_dtype: of actions.
    """

    obs: Mapping[str, ArraySpec]
    action_dim: int
    action_dtype: str = "<f4"

    def arrays(self, first: bool) -> dict[str, ArraySpec]:
        """What a transition's record holds; with `obs` where it is the first of an episode."""
        action: ArraySpec = (self.action_dtype, (self.action_dim,))
        specs = {f"next_obs/{name}": spec for name, spec in self.obs.items()} | {"action": action, "executed": action}
        return specs | ({f"obs/{name}": spec for name, spec in self.obs.items()} if first else {})

    @property
    def max_bytes(self) -> int:
        """No record of the task is larger."""
        sizes = (math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in self.arrays(first=True).values())
        return PREFIX.size + MAX_HEADER_BYTES + sum(size + 8 for size in sizes)


@dataclass(frozen=True)
class Begin:
    """The first record of every session: which actor, on which arm, since when (UTC, ISO)."""

    actor_id: int
    arm: str
    started: str


@dataclass(frozen=True)
class Step:
    """A transition. `first` of its episode, or after a loss; `success` and `fault` tell how the episode ended, at its end.

    `control` tells how the control loop did, where that is known: `late_s`, `step_s` and `held_steps` of `robot_env.env`.
    `discarded`, at an episode's end: its operator does not want it learned from.
    """

    transition: Transition
    first: bool
    success: bool = False
    fault: str | None = None
    control: Mapping[str, float] = field(default_factory=dict)
    discarded: bool = False

    @property
    def ends_episode(self) -> bool:
        return self.transition.terminated or self.transition.truncated


@dataclass(frozen=True)
class Scores:
    """An evaluation: by mode its score as plain JSON, with `success` of `trials`; which one it is; sampled actions so far."""

    evaluation: int
    calls: int
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Gap:
    """Records `[number, to)` will never come: the spool was full, or they are damaged. `transitions` of them, -1 if unknown."""

    to: int
    transitions: int
    reason: str


Event = Begin | Step | Scores | Gap


@dataclass(frozen=True)
class Entry:
    """A place in a session's stream and what stands there.

    Attributes:
        session: random number of the actor's run, 1 to 2^63 - 1.
        number: place in its stream, from 0 without a gap that no `Gap` explains.
    """

    session: int
    number: int
    event: Event

    @property
    def next(self) -> int:
        """The number of the record that follows."""
        return self.event.to if isinstance(self.event, Gap) else self.number + 1


def encode(entry: Entry, layout: Layout | None = None) -> bytes:
    """The record of an entry. Raises `RecordError` for what a record cannot hold, or where it does not fit a layout given."""
    header, arrays = _parts(entry)
    if layout is not None:
        entry_of(header, arrays, layout)
    return pack(header, arrays)


def _parts(entry: Entry) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    place = {"session": entry.session, "number": entry.number}
    match entry.event:
        case Step(t, first):
            arrays = {f"next_obs/{name}": x for name, x in t.next_obs.items()}
            arrays |= {"action": t.action, "executed": t.executed}
            arrays |= {f"obs/{name}": x for name, x in t.obs.items()} if first else {}
            if t.session != entry.session:
                raise RecordError(f"record: a transition of session {t.session} in the stream of {entry.session}")
            fields = {name: getattr(t, name) for name in _TRANSITION} | {"reward": float(t.reward)}
            fields |= {"terminated": bool(t.terminated), "truncated": bool(t.truncated)}  # environments give numpy's
            event = {"first": first, "success": entry.event.success, "fault": entry.event.fault}
            event |= {"control": dict(entry.event.control)} if entry.event.control else {}
            event |= {"discarded": True} if entry.event.discarded else {}
            return {"kind": "transition", **place, **fields, **event}, arrays
        case Begin() as begin:
            return {"kind": "begin", **place, **vars(begin)}, {}
        case Scores() as scores:
            return {"kind": "scores", **place, **vars(scores)}, {}
        case Gap() as gap:
            return {"kind": "gap", **place, **vars(gap)}, {}


def decode(data: bytes | memoryview, layout: Layout, previous: Mapping[str, np.ndarray] | None = None) -> Entry:
    """The entry of a record, checked against the task. See `entry_of`."""
    return entry_of(*unpack(data), layout, previous)


def entry_of(
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    layout: Layout,
    previous: Mapping[str, np.ndarray] | None = None,
) -> Entry:
    """The entry that an unpacked record holds, checked against the task.

    Args:
        previous: `next_obs` of the session's transition before, for one that does not carry its `obs`; without it such a
            transition's `obs` is empty.

    Raises:
        RecordError: the record holds what the task does not.
    """
    kind = header["kind"]
    if kind not in _FIELDS:
        raise RecordError(f"record: unknown kind {kind!r:.80}")
    want = {"session": int, "number": int, **_FIELDS[kind]}
    for name, types in want.items():
        value = header.get(name)
        wrong = name not in header or not isinstance(value, types) or (isinstance(value, bool) and types is not bool)
        if wrong or (types is int and not -1 <= header[name] < LIMIT):
            raise RecordError(f"record: a {kind} has {name} {value!r:.80}")
    if header["session"] < 1 or header["number"] < 0:
        raise RecordError(f"record: session {header['session']}, number {header['number']}")
    specs = layout.arrays(header["first"]) if kind == "transition" else {}
    found = {name: (x.dtype.str, x.shape) for name, x in arrays.items()}
    if found != specs:
        name = next(n for n in (*specs, *found) if found.get(n) != specs.get(n))
        raise RecordError(f"record: array {name!r:.80} is {found.get(name)}, the task wants {specs.get(name)}")
    fields = {name: header[name] for name in _FIELDS[kind]}
    rare = {
        "control": header.get("control", {}),
        "discarded": header.get("discarded", False),
    }  # most records have neither
    event = _step(fields | rare, arrays, previous) if kind == "transition" else _EVENTS[kind](**fields)
    if isinstance(event, Scores) and not (_is_plain(event.scores) and _are_counts(event.scores)):
        raise RecordError(f"record: scores {event.scores!r:.80}")
    if isinstance(event, Gap) and event.to <= header["number"]:
        raise RecordError(f"record: a gap from {header['number']} to {event.to}")
    return Entry(header["session"], header["number"], event)


def _step(fields: dict[str, Any], arrays: Mapping[str, np.ndarray], previous: Mapping[str, np.ndarray] | None) -> Step:
    reward, source, control = fields["reward"], fields["source"], fields["control"]
    if not math.isfinite(reward) or not 0 <= source < len(SOURCES):
        raise RecordError(f"record: a transition has reward {reward} and source {source}")
    if not (isinstance(control, dict) and _is_plain(control) and {*map(type, control.values())} <= {int, float}):
        raise RecordError(f"record: a transition has control {control!r:.80}")
    if not isinstance(fields["discarded"], bool):
        raise RecordError(f"record: a transition has discarded {fields['discarded']!r:.80}")
    for name, x in arrays.items():
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise RecordError(f"record: array {name!r} holds a number that is not finite")
    named = {kind: _named(arrays, kind) for kind in ("obs/", "next_obs/")}
    obs = named["obs/"] if fields["first"] else (previous or {})
    own = {name: fields[name] for name in _TRANSITION}
    own["reward"] = float(reward)
    transition = Transition(
        obs=obs, action=arrays["action"], executed=arrays["executed"], next_obs=named["next_obs/"], **own
    )
    return Step(transition, fields["first"], fields["success"], fields["fault"], control, fields["discarded"])


def _is_plain(value: Any, depth: int = 16) -> bool:
    """Whether it is JSON of finite numbers, nested no deeper than scores are."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(k, str) and _is_plain(x, depth - 1) for k, x in value.items())
    if isinstance(value, list | tuple):  # a record has only lists
        return depth > 0 and all(_is_plain(x, depth - 1) for x in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def _are_counts(scores: Mapping[str, Any]) -> bool:
    """Whether both ways of acting have a score, and it tells how many trials of how many succeeded."""

    def counts(score: Any) -> bool:
        success, trials = (score.get("success"), score.get("trials")) if isinstance(score, dict) else (None, None)
        return type(success) is int and type(trials) is int and 0 <= success <= trials and trials > 0

    return set(scores) == set(EVALUATED) and all(counts(score) for score in scores.values())


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


_TRANSITION: Sequence[str] = (
    "reward",
    "terminated",
    "truncated",
    "source",
    "policy_version",
    "actor_id",
    "session",
    "sequence",
)
_FIELDS: dict[str, dict[str, Any]] = {
    "transition": {
        "reward": (float, int),
        "terminated": bool,
        "truncated": bool,
        "source": int,
        "policy_version": int,
        "actor_id": int,
        "session": int,
        "sequence": int,
        "first": bool,
        "success": bool,
        "fault": (str, type(None)),
    },
    "begin": {"actor_id": int, "arm": str, "started": str},
    "scores": {"evaluation": int, "calls": int, "scores": dict},
    "gap": {"to": int, "transitions": int, "reason": str},
}
_EVENTS: dict[str, Any] = {"begin": Begin, "scores": Scores, "gap": Gap}
