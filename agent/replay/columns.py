"""A whole journal as columns: what `episodes` gives one transition at a time, ten times as fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.replay.entry import Layout, decode
from agent.replay.episodes import Tombstones
from agent.replay.journal_index import Chain
from agent.replay.journal_info import JournalInfo, session_folders, session_name
from agent.replay.record import PREFIX, RecordError
from agent.replay.segment import WHAT_TO_DO, header
from agent.replay.stream_reader import StreamReader

READ_AT_ONCE = 4096  # records
NUMBERS = {
    "reward": np.float64,
    "terminated": bool,
    "truncated": bool,
    "success": bool,
    "source": np.int32,
    "policy_version": np.int64,
}
Columns = dict[str, np.ndarray]


def read_columns(folder: Path, info: JournalInfo) -> Columns:
    """All transitions of a journal that have no tombstone, session by session, as arrays `(N, ...)`.

    The columns are `obs/NAME`, `next_obs/NAME`, `action`, `executed` and `NUMBERS`. An episode that was left, or lost its end,
    is truncated where it was: a loss is no end.

    Raises:
        RecordError: the journal is damaged, or holds what its own layout does not allow.
    """
    removed = Tombstones.read(folder)
    sessions = [
        _Session(path, session, info.layout, {number for s, number in removed if s == session})
        for session, path in session_folders(folder).items()
    ]
    parts = [session.read() for session in sessions]
    there = sum(session.transitions for session in sessions)
    if info.transitions is not None and there != info.transitions:
        raise RecordError(f"journal {folder}: {there} of its {info.transitions} transitions are there; copy it again")
    parts = [part for part in parts if len(part["reward"])] or [_empty(info.layout)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Session:
    """Gathers one session's transitions."""

    def __init__(self, folder: Path, session: int, layout: Layout, removed: set[int]) -> None:
        self._folder, self._layout, self._removed = folder, layout, removed
        self._forms = {first: _Form(layout, first) for first in (False, True)}
        self._where = f"journal {folder} (session {session_name(session)})"
        self._chain, self._episode, self._last = Chain(), -1, -1
        self._numbers: dict[str, list] = {name: [] for name in NUMBERS}
        self._keep: list[bool] = []

    def read(self) -> Columns:
        stream, parts = StreamReader(self._folder), []
        previous: Columns | None = None
        while records := stream.read(READ_AT_ONCE):
            block = self._block(records, previous)
            if block is not None:
                parts.append(block)
                previous = {name: x[-1:] for name, x in block.items() if name.startswith("next_obs/")}
        self._cut()
        if not parts:
            return _empty(self._layout)
        keep = np.asarray(self._keep)
        columns = {name: np.concatenate([part[name] for part in parts])[keep] for name in parts[0]}
        columns |= {name: np.asarray(self._numbers[name], kind)[keep] for name, kind in NUMBERS.items()}
        for name, x in columns.items():
            if x.dtype.kind == "f" and not np.isfinite(x).all():
                raise RecordError(f"{self._where}: {name} holds a number that is not finite; {WHAT_TO_DO}")
        return columns

    @property
    def transitions(self) -> int:
        """How many it holds, those that are left out included."""
        return len(self._keep)

    def _block(self, records: Sequence[memoryview], previous: Columns | None) -> Columns | None:
        """The arrays of some records that follow; those of a transition without its `obs` come from the one before it."""
        bodies: dict[bool, list[memoryview]] = {False: [], True: []}
        order: list[bool] = []
        for record in records:
            head = header(record)
            if head.get("kind") != "transition":
                self._cut()
                self._chain = Chain()
                continue
            first = self._take(record, head)
            bodies[first].append(record[self._forms[first].start(record) :])
            order.append(first)
        if not order:
            return None
        firsts = np.asarray(order)
        columns: Columns = {}
        for first, form in self._forms.items():
            rows = np.frombuffer(b"".join(bodies[first]), form.dtype)
            for name in rows.dtype.names or ():
                x = columns.setdefault(name, np.zeros((len(order), *rows[name].shape[1:]), rows[name].dtype))
                x[firsts == first] = rows[name]
        rest = np.flatnonzero(~firsts)
        for name in self._layout.obs:
            following, obs = columns[f"next_obs/{name}"], f"obs/{name}"
            columns.setdefault(obs, np.zeros_like(following))[rest[rest > 0]] = following[rest[rest > 0] - 1]
            if len(rest) and rest[0] == 0 and previous is not None:
                columns[obs][0] = previous[f"next_obs/{name}"][0]
        return columns

    def _take(self, record: memoryview, head: Mapping[str, Any]) -> bool:
        """Counts a transition; whether it carries its `obs`."""
        first = head.get("first") is True
        if type(head.get("first")) is not bool or head.get("arrays") != self._forms[first].listed:
            decode(record, self._layout)  # which says what is wrong
            raise RecordError(f"{self._where}: a record lists its arrays in another order; {WHAT_TO_DO}")
        try:
            for name, values in self._numbers.items():
                values.append(head[name])
        except KeyError as error:
            raise RecordError(f"{self._where}: a transition has no {error}; {WHAT_TO_DO}") from error
        ends = head["terminated"] or head["truncated"]
        if self._chain.begins(first):
            self._cut()
            self._episode += 1
        usable = self._chain.usable(first)
        self._keep.append(usable and self._episode not in self._removed)
        self._chain = self._chain.after(first, ends)
        self._last = len(self._keep) - 1 if self._chain.open else -1
        return first

    def _cut(self) -> None:
        """What follows is of another episode: where one is open, it was truncated at its last transition."""
        if self._last >= 0:
            self._numbers["truncated"][self._last] = True
        self._last = -1


class _Form:
    """How the arrays of a transition lie in its record, behind the header."""

    def __init__(self, layout: Layout, first: bool) -> None:
        specs = layout.arrays(first)
        self.listed = [[name, dtype, list(shape)] for name, (dtype, shape) in specs.items()]
        offsets, at = [], 0
        for dtype, shape in specs.values():
            size = np.dtype((dtype, shape)).itemsize
            offsets.append(at)
            at += size + (-size % 8)
        form = {"names": list(specs), "formats": list(specs.values()), "offsets": offsets, "itemsize": at}
        self.dtype = np.dtype(form)  # type: ignore[call-overload]

    @staticmethod
    def start(record: memoryview) -> int:
        head = int.from_bytes(record[4:8], "little")
        return PREFIX.size + head + (-head % 8)


def _empty(layout: Layout) -> Columns:
    columns = {name: np.zeros((0, *shape), dtype) for name, (dtype, shape) in layout.arrays(first=True).items()}
    return columns | {name: np.zeros(0, kind) for name, kind in NUMBERS.items()}
