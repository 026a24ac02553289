"""The actor's spool: what it has told and the learner has not yet made safe, on disk, one stream per session."""

import fcntl
import os
import re
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from agent.replay.entry import Entry, Gap, Layout, encode
from agent.replay.journal_repair import mend_stream
from agent.replay.record import RecordError
from agent.replay.segment import write_whole
from agent.replay.stream import StreamWriter
from agent.replay.stream_reader import StreamReader

Full = Literal["stop", "drop"]
SEGMENT_BYTES = 16 << 20  # what is safe is deleted by whole segments
PER_LIMIT = 8  # a spool has at least so many segments when it is full, so that a small part is dropped at a time


STREAM = re.compile(r"\d{4,}-[0-9a-f]{16}")  # folder: which of the spool, and its session
LOCK_S = 10.0  # for the actor before this one to end


class SpoolFull(RuntimeError):
    """The limit is reached and nothing may be dropped."""


class Outgoing:
    """A session's stream on its way out. Its methods may be called from two threads: one appends, the other sends.

    Args:
        folder: of the stream.
        session: its number.
        segment_bytes: see `StreamWriter`.
        run: of a new stream, the run that it belongs to.
    """

    def __init__(self, folder: Path, session: int, segment_bytes: int, run: str | None = None) -> None:
        self.folder, self.session = folder, session
        self._lock, self._safe, self._segment_bytes = threading.Lock(), 0, segment_bytes
        name = folder / "run"
        if run is not None:
            folder.mkdir(parents=True)
            write_whole(name, run.encode())
        self.run = name.read_text()
        self.mended: list[str] = []
        try:
            self._writer = StreamWriter(folder, segment_bytes)
        except RecordError:
            self.mended = mend_stream(folder, session)
            self._writer = StreamWriter(folder, segment_bytes)
        if self._writer.cut_bytes:
            self.mended.append(
                f"cut {self._writer.cut_bytes} bytes of an unfinished record {self._writer.next} in {folder}"
            )
        self.reader = StreamReader(folder, self._writer.first)

    @property
    def first(self) -> int:
        """The oldest record that still exists."""
        return self._writer.first

    @property
    def next(self) -> int:
        """The record that will be told next."""
        return self._writer.next

    @property
    def nbytes(self) -> int:
        return self._writer.nbytes

    def read(self, count: int) -> list[memoryview]:
        """Up to `count` records that follow. What was damaged since it was written comes as a gap; `mended` says where."""
        try:
            return self.reader.read(count, until=self.next)
        except RecordError:
            with self._lock:
                at, told = self.reader.next, self.next
                self._writer.close()
                self.mended += mend_stream(self.folder, self.session)
                self._writer = StreamWriter(self.folder, self._segment_bytes)
                if self._writer.next < told:  # its end is gone
                    lost = Gap(told, told - self._writer.next, "it was damaged on the disk")
                    self._writer.append(
                        self._writer.next, encode(Entry(self.session, self._writer.next, lost)), told, True
                    )
            self.reader.seek(at)
            return self.reader.read(count, until=self.next)

    def append(self, entry: Entry, record: bytes) -> None:
        """Appends a record. Raises `OSError` where the disk does not take it."""
        step = getattr(entry.event, "ends_episode", True)
        with self._lock:
            self._writer.append(entry.number, record, entry.next, step)

    def sync(self) -> None:
        """Makes what was appended last."""
        with self._lock:
            self._writer.sync()

    def drop_before(self, number: int) -> None:
        """Deletes what is safe, by whole segments."""
        with self._lock:
            self._safe = number
            self._writer.drop_before(number)

    def drop_oldest(self) -> int | None:
        """Deletes the oldest segment but the last; returns how many records went that were not safe, None for no segment."""
        with self._lock:
            gone = self._writer.drop_oldest()
            return None if gone is None else max(gone[1] - max(gone[0], self._safe), 0)

    def close(self) -> None:
        with self._lock:
            self._writer.close()
        self.reader.close()

    def delete(self) -> None:
        """Closes it and deletes its files: all of it is safe."""
        self.close()
        shutil.rmtree(self.folder)


class Spool:
    """Keeps records until the learner has them in its journal.

    Args:
        folder: made where it is not there; one process at a time.
        limit_bytes: of all that is kept.
        full: what happens at the limit: `stop` raises `SpoolFull`, `drop` deletes the oldest records and counts them.

    Attributes:
        old: streams that earlier sessions left, oldest first.
        dropped: records deleted before the learner had said that they are safe. Some may have arrived all the same: what
            never did is a gap in the journal.

    Raises:
        ValueError: another process uses the folder, or something else is in it.
    """

    def __init__(self, folder: Path, limit_bytes: int, full: Full) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._limit_bytes, self._full = folder, limit_bytes, full
        self._lock_file = _lock(folder)
        self._segment_bytes = min(SEGMENT_BYTES, max(limit_bytes // PER_LIMIT, 1))
        names = sorted(
            path.name for path in folder.iterdir() if STREAM.fullmatch(path.name) and (path / "run").exists()
        )
        self.old = [Outgoing(folder / name, int(name[5:], 16), self._segment_bytes) for name in names]
        self._count = int(names[-1][:4]) + 1 if names else 0
        self._layout: Layout | None = None
        self._current: Outgoing | None = None
        self.dropped = 0

    def begin(self, session: int, layout: Layout, run: str) -> Outgoing:
        """The stream of a new session of a run, whose records must fit the layout."""
        name = f"{self._count:04d}-{session:016x}"
        self._layout, self._current = layout, Outgoing(self.folder / name, session, self._segment_bytes, run)
        return self._current

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(stream.nbytes for stream in self._streams)

    @property
    def _streams(self) -> Sequence[Outgoing]:
        return [*self.old, *([] if self._current is None else [self._current])]

    def append(self, entry: Entry) -> None:
        """Keeps an entry of the session that was begun.

        Raises:
            SpoolFull: the limit is reached, and the policy is to stop; this entry is kept all the same.
            RecordError: the entry is none that a learner would take.
            OSError: the disk does not take it.
        """
        assert self._current is not None
        assert self._layout is not None
        record = encode(entry, self._layout)  # what a learner would refuse must not get in: it could never be delivered
        self._current.append(entry, record)
        while self.nbytes > self._limit_bytes:
            if self._full == "stop":
                raise SpoolFull(
                    f"spool {self.folder}: its limit of {self._limit_bytes >> 20} MB is reached; start the learner, then this "
                    "actor again with the same --out, or raise --spool-mb"
                )
            gone = next((n for stream in self._streams if (n := stream.drop_oldest()) is not None), None)
            if gone is None:
                break  # the segment being written is larger than the limit: it is kept whole
            self.dropped += gone

    def done(self, stream: Outgoing) -> None:
        """All of a stream is safe: deletes it."""
        stream.delete()
        if stream in self.old:
            self.old.remove(stream)
        else:
            self._current = None

    def close(self) -> None:
        """Closes all files; once is enough."""
        for stream in self._streams:
            stream.close()
        if self._lock_file >= 0:
            os.close(self._lock_file)
        self._lock_file = -1


def _lock(folder: Path) -> int:
    """Takes the folder for this process; close the file that it returns to give it back. Raises `ValueError`."""
    file, until_s = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o644), time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if time.monotonic() > until_s:
                os.close(file)
                raise ValueError(f"spool {folder}: another actor uses it; give this one its own --out") from error
        time.sleep(0.1)
