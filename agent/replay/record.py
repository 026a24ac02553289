"""Records: the one form of everything an actor tells, the same bytes in its spool, on the wire and in the journal.

A record is one block of bytes, all numbers little-endian:

| bytes | what |
|---|---|
| 0:4 | `SGR1` |
| 4:8 | size of the header, u32 |
| 8:12 | size of the whole record, u32, a multiple of 8 |
| 12:16 | CRC-32 of all other bytes |
| 16: | header, msgpack; zeros to a multiple of 8 |
| then | each array's raw bytes in the header's order, each followed by zeros to a multiple of 8 |

The header is a map with `kind`, `version`, `arrays` (a list of `[name, dtype, shape]`) and what the kind needs. A frame that
two transitions share is stored once: a transition carries its `next_obs`, and its `obs` only where it is the first of an
episode, or the first after something was lost.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

import msgpack
import numpy as np

from agent.types import SOURCES, Transition

MAGIC, VERSION = b"SGR1", 1
PREFIX = Struct("<4sIII")
MAX_HEADER_BYTES = 1 << 18
MAX_RECORD_BYTES = (1 << 32) - 8
DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8")
MAX_RANK = 8
MAX_ARRAYS = 4096  # of parameters there may be hundreds
LIMIT = 1 << 63  # integers of a header are below it

ArraySpec = tuple[str, tuple[int, ...]]
"""dtype as in `DTYPES`, and shape."""


class RecordError(ValueError):
    """Bytes that are not the record they should be; the message says what was found."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """One record. Raises `RecordError` for what `unpack` would refuse, and for a record of 4 GB or more."""
    contiguous = {name: np.ascontiguousarray(x).reshape(np.shape(x)) for name, x in arrays.items()}
    listed = [[name, x.dtype.str, list(x.shape)] for name, x in contiguous.items()]
    _specs(listed)
    try:
        head: bytes = msgpack.packb({**header, "version": VERSION, "arrays": listed}) or b""
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"record: its header holds what cannot be told ({error})") from error
    parts: list[Any] = [head, bytes(-len(head) % 8)]
    for x in contiguous.values():
        parts += [x.reshape(-1).view(np.uint8).data, bytes(-x.nbytes % 8)]
    size = PREFIX.size + sum(len(part) for part in parts)
    if size > MAX_RECORD_BYTES or len(head) > MAX_HEADER_BYTES:
        raise RecordError(f"record: {size} bytes with a header of {len(head)}; keep observations smaller")
    crc = zlib.crc32(PREFIX.pack(MAGIC, len(head), size, 0)[:12])
    for part in parts:
        crc = zlib.crc32(part, crc)
    return b"".join([PREFIX.pack(MAGIC, len(head), size, crc), *parts])


def record_size(prefix: bytes | memoryview) -> int:
    """The size that a record's first 16 bytes announce. Raises `RecordError` where they are no prefix."""
    if len(prefix) < PREFIX.size:
        raise RecordError(f"record: {len(prefix)} bytes are fewer than a prefix's {PREFIX.size}")
    magic, head, size, _ = PREFIX.unpack_from(prefix)
    if magic != MAGIC or size % 8 or head > MAX_HEADER_BYTES or size < PREFIX.size + head:
        raise RecordError("record: does not begin as a record of this program")
    return size


def unpack(data: bytes | memoryview) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of one whole record; the arrays are read-only views of `data`.

    Nothing is allocated for an array before sizes, dtypes and shapes agree with the bytes that are there.

    Raises:
        RecordError: anything is not as it should be.
    """
    data = memoryview(data).toreadonly()
    size = record_size(data)
    if size != len(data):
        raise RecordError(f"record: announces {size} bytes, {len(data)} are there")
    _, head_size, _, crc = PREFIX.unpack_from(data)
    if zlib.crc32(data[PREFIX.size :], zlib.crc32(data[:12])) != crc:
        raise RecordError("record: its checksum does not match its bytes")
    header = _header(data[PREFIX.size : PREFIX.size + head_size])
    arrays: dict[str, np.ndarray] = {}
    offset = PREFIX.size + head_size + (-head_size % 8)
    for name, dtype, shape in _specs(header.get("arrays")):
        count = math.prod(shape)
        nbytes = count * np.dtype(dtype).itemsize
        if name in arrays or offset + nbytes > len(data):
            raise RecordError(f"record: array {name!r:.80} is there twice or longer than the record")
        arrays[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
        if dtype == "|b1" and arrays[name].view(np.uint8).max(initial=0) > 1:
            raise RecordError(f"record: array {name!r} holds what is neither true nor false")
        offset += nbytes + (-nbytes % 8)
    if offset != len(data):
        raise RecordError(f"record: its arrays end at byte {offset} of {len(data)}")
    return header, arrays


def _header(data: memoryview) -> dict[str, Any]:
    try:
        header = msgpack.unpackb(data)
    except Exception as error:  # msgpack raises a dozen kinds, each for bytes that are not msgpack
        raise RecordError(f"record: its header is not msgpack ({error or type(error).__name__})") from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise RecordError("record: its header names no kind")
    if type(header.get("version")) is not int or header["version"] != VERSION:
        raise RecordError(f"record: version {header.get('version')!r:.80}, this program speaks {VERSION}")
    return header


def _specs(listed: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    if not isinstance(listed, list) or len(listed) > MAX_ARRAYS:
        raise RecordError("record: its list of arrays is malformed")
    specs = []
    for entry in listed:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list)):
            raise RecordError("record: its list of arrays is malformed")
        name, dtype, shape = entry
        sized = len(shape) <= MAX_RANK and all(type(n) is int and 0 <= n < LIMIT for n in shape)
        # numpy refuses an empty array whose other axes are too long, though it takes no memory.
        sized = sized and math.prod(n for n in shape if n) < 1 << 32
        if not isinstance(name, str) or dtype not in DTYPES or not sized:
            raise RecordError(f"record: array {name!r:.80} has dtype {dtype!r:.80} and shape {shape!r:.80}")
        specs.append((name, dtype, tuple(shape)))
    return specs


@dataclass(frozen=True)
class Layout:
    """What the transitions of a task hold.

    Attributes:
        obs: dtype and shape by observation name.
        action_dim: A.
    """

    obs: Mapping[str, ArraySpec]
    action_dim: int

    def arrays(self, first: bool) -> dict[str, ArraySpec]:
        """What a transition's record holds; with `obs` where it is the first of an episode."""
        action: ArraySpec = ("<f4", (self.action_dim,))
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
    """A transition. `first` of its episode, or after a loss; `success` and `fault` tell how the episode ended, at its end."""

    transition: Transition
    first: bool
    success: bool = False
    fault: str | None = None

    @property
    def ends_episode(self) -> bool:
        return self.transition.terminated or self.transition.truncated


@dataclass(frozen=True)
class Scores:
    """An evaluation: the plain-JSON scores by mode, which one it is, and sampled actions so far."""

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


def encode(entry: Entry) -> bytes:
    """The record of an entry. Raises `RecordError` for what a record cannot hold; whether it fits a task, `decode` tells."""
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
            return pack({"kind": "transition", **place, **fields, **event}, arrays)
        case Begin() as begin:
            return pack({"kind": "begin", **place, **vars(begin)}, {})
        case Scores() as scores:
            return pack({"kind": "scores", **place, **vars(scores)}, {})
        case Gap() as gap:
            return pack({"kind": "gap", **place, **vars(gap)}, {})


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
    event = _step(fields, arrays, previous) if kind == "transition" else _EVENTS[kind](**fields)
    if isinstance(event, Scores) and not _is_plain(event.scores):
        raise RecordError("record: scores that are not plain JSON")
    if isinstance(event, Gap) and event.to <= header["number"]:
        raise RecordError(f"record: a gap from {header['number']} to {event.to}")
    return Entry(header["session"], header["number"], event)


def _step(fields: dict[str, Any], arrays: Mapping[str, np.ndarray], previous: Mapping[str, np.ndarray] | None) -> Step:
    reward, source = fields["reward"], fields["source"]
    if not math.isfinite(reward) or not 0 <= source < len(SOURCES):
        raise RecordError(f"record: a transition has reward {reward} and source {source}")
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
    return Step(transition, fields["first"], fields["success"], fields["fault"])


def _is_plain(value: Any, depth: int = 16) -> bool:
    """Whether it is JSON of finite numbers, nested no deeper than scores are."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(k, str) and _is_plain(x, depth - 1) for k, x in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(x, depth - 1) for x in value)
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


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
