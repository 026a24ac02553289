"""Streams: one session's records on disk, append-only, in the actor's spool and in the learner's journal.

A stream is a folder of segments `000000000000.seg`, each named by the number of its first record and holding whole records
back to back, nothing else. Numbers rise by one from record to record; after a gap they go on at what it names.
"""

import os
from pathlib import Path

from agent.replay.record import PREFIX, RecordError, record_size
from agent.replay.segment import (
    BLOCK_BYTES,
    Bytes,
    following,
    holds_record,
    intact,
    pieces,
    segment_path,
    segments,
    sync_folder,
)

WHAT_TO_DO = "repair its journal, or move the file away"


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


class StreamReader:
    """Reads records in order and follows a stream that grows. Holds no file open between its calls.

    In another thread than the writer's: give `read` the writer's `next` as `until`.

    Args:
        folder: of the stream; it may still be missing.
        start: where to begin.

    Attributes:
        next: number of the record that comes next, as far as is known.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        self.folder = folder
        self.seek(start)

    def seek(self, number: int) -> None:
        """Goes to record `number`, or the first one after it that there is."""
        self.next = number
        self._segment: int | None = None  # found when it is read, for it may not be there yet

    def close(self) -> None:
        """Forgets where it is and what it has read ahead."""
        self.seek(self.next)
        self._ahead = memoryview(b"")

    def read(self, count: int, until: int | None = None) -> list[memoryview]:
        """Up to `count` records that follow, none at or past number `until`; none at the end of what is there.

        They follow each other; where segments were dropped, the first is the oldest that is left. They are views of larger
        blocks, so copy what is kept for long.

        Raises:
            RecordError: the next record is damaged; the message names file and byte. It is raised again until the reader
                is sent elsewhere.
        """
        records: list[memoryview] = []
        while len(records) < count and (until is None or self.next < until):
            if self._segment is None and (records or not self._locate()):
                break
            try:
                record = self._record()
                after = self._at if record is None else following(record, self._at)
            except RecordError:
                if records:
                    break  # those are good; the next call raises it
                raise
            if record is None:
                if self._segment is not None:
                    break
                continue
            number, self._at = self._at, after
            self._offset, self._ahead = self._offset + len(record), self._ahead[len(record) :]
            if number >= self.next:
                records.append(record)
            self.next = max(self.next, self._at)
        return records

    def _locate(self) -> bool:
        """Finds the segment of `next`, or the first one after it; whether there is one."""
        there = segments(self.folder)
        if not there:
            return False
        self._segment = max((n for n in there if n <= self.next), default=there[0])
        self.next = max(self.next, self._segment)
        self._at, self._offset, self._ahead = self._segment, 0, memoryview(b"")
        return True

    def _record(self) -> memoryview | None:
        """The record at the present place; None where it is not there yet, or the segment is not there any more."""
        while self._segment is not None:
            record = intact(self._ahead)
            if record is not None:
                return record
            # Not wholly read, or read while a write that failed was undone: read it again.
            self._fill()
            record = intact(self._ahead)
            if record is not None or not self._pass_on():
                return record
        return None

    def _fill(self) -> None:
        """Reads ahead from the present place, one whole record or more where it is there."""
        assert self._segment is not None
        self._ahead = memoryview(b"")
        try:
            file = os.open(segment_path(self.folder, self._segment), os.O_RDONLY)
        except FileNotFoundError:
            self._segment = None
            return
        try:
            there = max(os.fstat(file).st_size - self._offset, 0)
            data = os.pread(file, min(there, BLOCK_BYTES), self._offset)
            if len(data) >= PREFIX.size and len(data) < (size := record_size(data)) <= there:
                data = os.pread(file, size, self._offset)
        except RecordError as error:
            raise self._damage(str(error)) from error
        finally:
            os.close(file)
        self._ahead = memoryview(data)

    def _pass_on(self) -> bool:
        """Where no record stands at the place: on to the next segment, or anew where this one was dropped.

        False where the stream ends here for now.
        """
        if self._segment is None:
            return True
        if len(self._ahead) >= PREFIX.size and record_size(self._ahead) <= len(self._ahead):
            raise self._damage("its checksum does not match its bytes")
        there = segments(self.folder)
        later = [n for n in there if n > self._segment]
        if self._segment not in there:
            self._segment = None
        elif not later:
            if holds_record(self._ahead):
                raise self._damage("it announces more bytes than it has")
            return False
        elif len(self._ahead) == 0 and later[0] == self._at:
            self._segment, self._offset = self._at, 0
        else:
            self._check_growth(later[0])
        return True

    def _check_growth(self, successor: int) -> None:
        """Reads on in a segment that has a successor by now: it grew before that was begun, or else it is damaged."""
        before = len(self._ahead)
        self._fill()
        if self._segment is None or len(self._ahead) > before:
            return
        if before:
            raise self._damage("the segment ends within it")
        raise self._damage(f"the segment ends before it and the next one begins at record {successor}")

    def _damage(self, what: str) -> RecordError:
        path = segment_path(self.folder, self._segment or 0)
        what = what.removeprefix("record: ")
        return RecordError(f"stream {path}: record {self._at} at byte {self._offset}: {what}; {WHAT_TO_DO}")
