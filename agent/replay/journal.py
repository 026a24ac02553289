"""The journal: everything that every actor of a run told, in the order of each, and what the numbers mean.

journal/
  journal.json            what the numbers mean
  lock                    held by the one process that appends
  tombstones.jsonl        episodes that are not to be learned from; see `episodes.py`
  0000-0123456789abcdef/  the stream of a session, see `stream.py`; numbered in the order of their first records
    000000000000.seg      records
    000000000000.idx      what stands in a finished segment; see `journal_index.py`
"""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.replay.entry import Entry
from agent.replay.journal_index import SegmentIndex, build_index, index_path
from agent.replay.journal_info import JournalInfo, lock_journal, session_folders, session_name
from agent.replay.record import RecordError
from agent.replay.segment import Bytes, header, segment_path, segments
from agent.replay.session_reader import SessionReader, is_orphan
from agent.replay.stream import StreamWriter

SEGMENT_BYTES = 64 << 20
MAX_OPEN = 16  # sessions whose files are open; others are opened again when they are told more


class Journal:
    """Takes records in. One process at a time; its methods may be called from several threads.

    Attributes:
        folder: where it is.
        info: what its numbers mean.
        cuts: what was cut away on opening, a sentence each: the ends of writes that were cut off.
    """

    def __init__(self, folder: Path, info: JournalInfo, lock: int) -> None:
        self.folder, self.info, self._lock_file = folder, info, lock
        self.cuts: list[str] = []
        self._lock = threading.Lock()
        self._folders = session_folders(folder)
        self._next = {session: self._look_at(path) for session, path in self._folders.items()}
        self._open: dict[int, _Session] = {}  # the one used last is the last one
        self._count = 1 + max((int(path.name.split("-")[0]) for path in self._folders.values()), default=-1)

    @classmethod
    def open(cls, folder: Path, info: JournalInfo | None) -> "Journal":
        """Opens a journal, and makes it where it is not there.

        Args:
            folder: of the journal.
            info: what the numbers are to mean; None takes them from the journal, which must be there.

        Raises:
            ValueError: another process uses it, its numbers mean something else, or it is damaged.
        """
        if info is None:
            JournalInfo.read(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_journal(folder)
        try:
            if info is not None and not (folder / "journal.json").exists():
                info.write(folder)
            found = JournalInfo.read(folder)
            if info is not None:
                info.check(found, folder)
            return cls(folder, found, lock)
        except BaseException:
            os.close(lock)
            raise

    def _look_at(self, folder: Path) -> int:
        """Cuts what a write that was cut off left, makes up for indexes that were not written; what comes next."""
        writer = StreamWriter(folder)
        writer.close()
        if writer.cut_bytes:
            path = segment_path(folder, segments(folder)[-1])
            self.cuts.append(f"journal {path}: cut {writer.cut_bytes} bytes of an unfinished record {writer.next}")
        for first in segments(folder)[:-1]:
            if not index_path(folder, first).exists():
                with suppress(OSError, RecordError):
                    build_index(folder, first).write(folder)
        return writer.next

    @property
    def sessions(self) -> list[int]:
        """In the order of their first records."""
        return list(self._folders)

    def next(self, session: int) -> int:
        """Number of the record that may come next: 0 for an unknown session."""
        return self._next.get(session, 0)

    def append(self, entry: Entry, record: Bytes) -> bool:
        """Writes a record to its session's stream; what is there already is left as it is.

        Args:
            entry: as decoded from the record.
            record: its bytes.

        Returns:
            Whether it was written; False where it was there.

        Raises:
            ValueError: records before it are missing and no gap explains them, or the entry is not the record's.
            OSError: it could not be written; the journal is as it was.
        """
        with self._lock:
            expected = self.next(entry.session)
            if entry.next <= expected:
                return False
            if entry.number != expected:
                raise ValueError(
                    f"journal {self.folder}: session {session_name(entry.session)} brings record {entry.number} where "
                    f"{expected} is next; send what is between, or a gap"
                )
            self._session(entry.session).append(entry, record)
            self._next[entry.session] = entry.next
            return True

    def _session(self, session: int) -> "_Session":
        if session not in self._folders:
            self._folders[session] = self.folder / f"{self._count:04d}-{session_name(session)}"
            self._count += 1
        if session not in self._open and len(self._open) >= MAX_OPEN:
            self._open.pop(next(iter(self._open))).writer.close()
        self._open[session] = self._open.pop(session, None) or _Session(self._folders[session])
        return self._open[session]

    def sync(self) -> None:
        """Returns when all that was appended is on the disk."""
        with self._lock:
            for session in self._open.values():
                session.writer.sync()

    def close(self) -> None:
        """Syncs, closes, and lets others use it."""
        with self._lock:
            for session in self._open.values():
                session.writer.close()
            self._open.clear()
            if self._lock_file >= 0:
                os.close(self._lock_file)
            self._lock_file = -1


class _Session:
    """A stream that is being written, and what stands in its last segment."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.writer = folder, StreamWriter(folder, SEGMENT_BYTES)
        last = self.writer.segment
        self._index = SegmentIndex(0, 0) if last is None else build_index(folder, last)

    def append(self, entry: Entry, record: Bytes) -> None:
        """See `Journal.append`."""
        head = header(record)
        if (head.get("session"), head.get("number")) != (entry.session, entry.number):
            raise ValueError(
                f"journal {self._folder}: record {entry.number} says it is {head.get('number')!r}; send it again"
            )
        self.writer.append(entry.number, record, entry.next, ends_episode=not self._index.after(head).known)
        if self.writer.segment != self._index.first:
            with suppress(OSError):  # it is made when the journal is opened again
                self._index.write(self._folder)
            self._index = SegmentIndex(entry.number, entry.number)
        self._index.add(head, len(record), entry.next)


class JournalReader:
    """Entries of a journal, session by session; follows a journal that grows, in this process or another. Takes no lock.

    Args:
        folder: of the journal.
        start: by session, the number of the record to begin at; from the beginning of those it does not name.

    Attributes:
        info: what the numbers mean.
        positions: by session, the number of the record that comes next.
        orphans: transitions left out because their `obs` is lost with what stood before them.

    Raises:
        ValueError: there is no journal, or not one that can be read.
    """

    def __init__(self, folder: Path, start: Mapping[int, int] | None = None) -> None:
        self.folder, self.info = folder, JournalInfo.read(folder)
        self.positions, self.orphans = dict(start or {}), 0
        self._folders: dict[int, Path] = {}
        self._sessions: dict[int, SessionReader] = {}

    def read(
        self, count: int, until: Mapping[int, int] | None = None, sessions: Sequence[int] | None = None
    ) -> list[Entry]:
        """Up to `count` entries that follow: all there is of the first session, then of the second, and so on.

        Their arrays are views of larger blocks, so copy what is kept for long.

        Args:
            count: entries at most.
            until: by session, the record to stop before; nothing of a session that it does not name.
            sessions: which, and in which order; all in the order in which they began where it is None.

        Raises:
            RecordError: the next record is damaged; again and again, until the journal is repaired.
        """
        if until is None or not until.keys() <= self._folders.keys():
            self._folders = session_folders(self.folder)
        entries: list[Entry] = []
        for session in self._folders if sessions is None else sessions:
            if session not in self._folders or (until is not None and session not in until):
                continue
            limit = None if until is None else until[session]
            try:
                while len(entries) < count and self._read(session, count - len(entries), limit, entries):
                    pass
            except RecordError:
                if entries:
                    break  # those are good; the next call raises it
                raise
        return entries

    def _read(self, session: int, count: int, until: int | None, into: list[Entry]) -> bool:
        """Takes entries of one session; whether there were any."""
        if session not in self._sessions:
            start = self.positions.get(session, 0)
            self._sessions[session] = SessionReader(self._folders[session], session, self.info.layout, start)
        found = self._sessions[session].read(count, until)
        self.positions[session] = self._sessions[session].next
        kept = [entry for entry in found if not is_orphan(entry, self.info.layout)]
        self.orphans += len(found) - len(kept)
        into += kept
        return bool(found)

    def close(self) -> None:
        """Forgets what it has read ahead."""
        self._sessions.clear()
