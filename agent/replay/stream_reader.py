"""Reading a stream in order while it grows."""

import os
from pathlib import Path

from agent.replay.record import PREFIX, RecordError, record_size
from agent.replay.segment import BLOCK_BYTES, WHAT_TO_DO, following, holds_record, intact, segment_path, segments


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
