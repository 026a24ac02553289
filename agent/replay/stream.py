"""Streams: one session's records on disk, append-only, in the actor's spool and in the learner's journal.

A stream is a folder of segments `000000000000.seg`, each named by the number of its first record and holding whole records
back to back, nothing else. Numbers rise by one from record to record; after a gap they go on at what it names.
"""

import os
from pathlib import Path

from agent.replay.record import RecordError, record_size
from agent.replay.segment import WHAT_TO_DO, Bytes, following, pieces, segment_path, segments, sync_folder


class StreamWriter:
    """Appends records. Only one thread at a time may call it; holds one file open.

    What a write that was cut off has left at the end of the last segment is cut away on opening.

    Args:
        folder: of the stream; made where it is not there.
        segment_bytes: past this size a segment ends with the episode.
        first: number of the first record of a new stream.

    Attributes:
        next: number of the record that may be appended next; it rises only after the record is written.
        nbytes: of all its segments.
        cut_bytes: how many were cut away on opening.

    Raises:
        RecordError: the last segment is damaged before its end; cutting would lose the intact records behind.
    """

    def __init__(self, folder: Path, segment_bytes: int = 64 << 20, first: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._segment_bytes = folder, segment_bytes
        self._segments = segments(folder)
        self.nbytes = sum(segment_path(folder, n).stat().st_size for n in self._segments)
        self.next, self.cut_bytes = first, 0
        self._file, self._size = -1, 0
        self._may_end = False  # whether a segment may end here; after opening not before an episode has ended
        self._unsynced = self._new_names = False
        if self._segments:
            self._go_on()

    def _go_on(self) -> None:
        """Opens the last segment behind its last whole record."""
        path = segment_path(self.folder, self._segments[-1])
        self.next, torn = self._segments[-1], None
        for piece in pieces(path):
            if torn is not None:
                raise RecordError(
                    f"stream {path}: damaged at byte {torn.offset} (record {self.next}), with intact records behind it; "
                    f"{WHAT_TO_DO}"
                )
            if piece.record is None:
                torn = piece
            else:
                self.next, self._size = following(piece.record, self.next), piece.offset + piece.size
        self._file = os.open(path, os.O_WRONLY)
        self._unsynced = self._new_names = True  # whoever wrote it may have died before it was on the disk
        if torn is not None:
            self.cut_bytes = torn.size
            self.nbytes -= torn.size
            os.ftruncate(self._file, self._size)
            os.fsync(self._file)

    @property
    def first(self) -> int:
        """Number of the oldest record that is still there."""
        return self._segments[0] if self._segments else self.next

    @property
    def segment(self) -> int | None:
        """First number of the segment that is being written; None before the first record."""
        return self._segments[-1] if self._segments else None

    def append(self, number: int, record: Bytes, next_number: int, ends_episode: bool) -> None:
        """Writes one record behind the others.

        Args:
            number, next_number: the record's and the following one's.
            ends_episode: no episode is under way after this record, so a segment may end here.

        Raises:
            ValueError: it is not the next one, or no record.
            OSError: it could not be written; the stream is as it was.
        """
        if number != self.next:
            raise ValueError(f"stream {self.folder}: record {number} cannot follow, {self.next} is next; send that one")
        if record_size(record) != len(record) or next_number != following(record, number):
            raise ValueError(f"stream {self.folder}: record {number} is no whole record that {next_number} follows")
        if self._file < 0 or (self._may_end and self._size >= self._segment_bytes):
            self._begin_segment()
        self._write(record)
        self._size += len(record)
        self.nbytes += len(record)
        self._unsynced, self._may_end = True, ends_episode
        self.next = next_number  # last: a reader in another thread goes by it

    def _begin_segment(self) -> None:
        self.sync()
        file = os.open(segment_path(self.folder, self.next), os.O_WRONLY | os.O_CREAT, 0o644)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size, self._new_names = file, 0, True
        self._segments.append(self.next)

    def _write(self, record: Bytes) -> None:
        offset, rest = self._size, memoryview(record)
        try:
            while rest:  # a write past 2 GB, or up to the last free block, is short; the one after it tells why
                written = os.pwrite(self._file, rest, offset)
                offset, rest = offset + written, rest[written:]
        except BaseException:
            os.ftruncate(self._file, self._size)
            raise

    def sync(self) -> None:
        """Makes what was appended last; returns when it does."""
        if self._unsynced:
            os.fsync(self._file)
            self._unsynced = False
        if self._new_names:
            sync_folder(self.folder)
            sync_folder(self.folder.parent)  # which may be new as well
            self._new_names = False

    def drop_before(self, number: int) -> int:
        """Deletes the segments that hold only records before `number`, not the one being written; returns how many records."""
        before = self.first
        while len(self._segments) > 1 and self._segments[1] <= number:
            self.drop_oldest()
        return self.first - before

    def drop_oldest(self) -> tuple[int, int] | None:
        """Deletes the oldest segment and returns its first record and the one after its last; None if only one is there."""
        if len(self._segments) < 2:
            return None
        path = segment_path(self.folder, self._segments[0])
        size = path.stat().st_size
        path.unlink()
        self.nbytes -= size
        return self._segments.pop(0), self._segments[0]

    def close(self) -> None:
        """Syncs and closes."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1
