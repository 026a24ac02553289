"""The episodes of a journal, and the tombstones of those that an operator does not want learned from."""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.replay.entry import Entry, Step
from agent.replay.journal_index import Chain, Span, spans
from agent.replay.journal_info import JournalInfo, session_folders, session_name, session_number
from agent.replay.session_reader import SessionReader
from agent.types import Transition

READ_AT_ONCE = 256  # records


@dataclass(frozen=True)
class Episode:
    """An episode of a journal; see `journal_index.Chain` for where one begins and ends.

    Attributes:
        session, number: which: the number counts the episodes of its session from 0.
        first, next: numbers of its first record and of the one after its last.
        transitions: in order; views of larger blocks, so copy what is kept for long.
        success, fault: as its last transition tells.
        tombstoned: it is not to be learned from.
        complete: it was terminated or truncated; otherwise it is open still, was left, or lost its end.
    """

    session: int
    number: int
    first: int
    next: int
    transitions: list[Transition]
    success: bool
    fault: str | None
    tombstoned: bool
    complete: bool


def episodes(folder: Path, tombstoned: bool = False) -> Iterator[Episode]:
    """The episodes of the journal in `folder`, session by session, one at a time in memory.

    Args:
        folder: of the journal.
        tombstoned: give those with a tombstone too.

    Raises:
        ValueError: there is no journal, or it is damaged.
    """
    info, removed = JournalInfo.read(folder), Tombstones.read(folder)
    for session, path in session_folders(folder).items():
        for number, entries in enumerate(_cut(SessionReader(path, session, info.layout))):
            last, buried = entries[-1].event, (session, number) in removed
            if isinstance(last, Step) and (tombstoned or not buried):
                transitions = [entry.event.transition for entry in entries if isinstance(entry.event, Step)]
                place = (session, number, entries[0].number, entries[-1].next)
                yield Episode(*place, transitions, last.success, last.fault, buried, last.ends_episode)


def _cut(reader: SessionReader) -> Iterator[list[Entry]]:
    """The transitions of each episode of a session; orphans left out."""
    chain, entries = Chain(), []
    while found := reader.read(READ_AT_ONCE):
        for entry in found:
            step = entry.event if isinstance(entry.event, Step) else None
            if entries and (step is None or chain.begins(step.first)):
                yield entries
                entries = []
            if step is not None and chain.usable(step.first):
                entries.append(entry)
            chain = Chain() if step is None else chain.after(step.first, step.ends_episode)
            if entries and not chain.open:
                yield entries
                entries = []
    if entries:
        yield entries


class Tombstones:
    """Which episodes of a journal are not to be learned from. Nothing of them is deleted, and each may be restored.

    `tombstones.jsonl` has a line for every change. It names the records `[first, next)` that the episode had: numbers of
    records stay what they are, while a repair may split an episode and so renumber those that follow.

    Args:
        folder: of the journal.

    Raises:
        ValueError: the file has a line that is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen = folder, _stamp(folder)
        self._removed = self.read(folder)

    def __contains__(self, episode: tuple[int, int]) -> bool:
        """Whether `(session, number of the episode)` has a tombstone."""
        return episode in self._removed

    def refresh(self) -> bool:
        """Reads the file again where it has changed; returns whether other episodes have tombstones now."""
        before, seen = self._removed, _stamp(self._folder)
        if seen != self._seen:
            self._removed, self._seen = self.read(self._folder), seen
        return self._removed != before

    @staticmethod
    def read(folder: Path) -> frozenset[tuple[int, int]]:
        """`(session, number of the episode)` of all that have one now."""
        removed: dict[int, list[tuple[int, int]]] = {}
        for session, first, after, restored in _lines(folder):
            ranges = removed.setdefault(session, [])
            if restored:
                ranges[:] = [(a, b) for a, b in ranges if b <= first or after <= a]
            else:
                ranges.append((first, after))
        folders = session_folders(folder) if removed else {}
        return frozenset(
            (session, number)
            for session, ranges in removed.items()
            for number, span in enumerate(spans(folders[session]) if ranges and session in folders else [])
            if any(a < span.next and span.first < b for a, b in ranges)
        )

    @staticmethod
    def discard(folder: Path, session: int, episode: int, reason: str, by: str) -> None:
        """Gives an episode a tombstone, in the name of `by`. Raises `ValueError` where there is no such episode."""
        _tell(folder, session, episode, {"reason": reason, "by": by, "restored": False})

    @staticmethod
    def restore(folder: Path, session: int, episode: int, by: str) -> None:
        """Takes its tombstone away again. Raises `ValueError` where there is no such episode, or it has none."""
        if (session, episode) not in Tombstones.read(folder):
            _find(folder, session, episode)
            raise ValueError(
                f"journal {folder}: episode {episode} of {session_name(session)} is not discarded; leave it"
            )
        _tell(folder, session, episode, {"reason": "", "by": by, "restored": True})


def _stamp(folder: Path) -> tuple[int, int]:
    try:
        found = (folder / "tombstones.jsonl").stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _lines(folder: Path) -> Iterator[tuple[int, int, int, bool]]:
    """Session, first and next record, and whether restored, of each line; one that was not finished is not there."""
    path = folder / "tombstones.jsonl"
    *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines, 1):
        try:
            plain = json.loads(line)
            yield session_number(plain["session"]), int(plain["first"]), int(plain["next"]), plain["restored"] is True
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"journal {path}: line {number} is no tombstone ({error}); remove that line") from error


def _find(folder: Path, session: int, episode: int) -> Span:
    folders = session_folders(folder)
    if session not in folders:
        raise ValueError(f"journal {folder}: it has no session {session_name(session)}; name one that it has")
    found = spans(folders[session])
    if not 0 <= episode < len(found):
        raise ValueError(
            f"journal {folder}: session {session_name(session)} has {len(found)} episodes and no number {episode}; "
            "count them from 0"
        )
    return found[episode]


def _tell(folder: Path, session: int, episode: int, what: dict[str, Any]) -> None:
    """Appends a line and makes it last."""
    span = _find(folder, session, episode)
    place = {"session": session_name(session), "episode": episode, "first": span.first, "next": span.next}
    line = json.dumps({**place, **what, "time": datetime.now(UTC).isoformat(timespec="seconds")}) + "\n"
    with open(folder / "tombstones.jsonl", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # a line that was not finished was never promised
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
