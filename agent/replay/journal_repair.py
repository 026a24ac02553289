"""Making a damaged journal whole again: what is lost becomes a gap, what is good stays, and the damaged bytes are kept."""

import os
from collections.abc import Iterator
from pathlib import Path

from agent.replay.entry import Entry, Gap, Layout, encode
from agent.replay.journal_check import Report, entry_of_piece, verify
from agent.replay.journal_index import build_index, index_path, read_index
from agent.replay.journal_info import JournalInfo, lock_journal, session_folders
from agent.replay.record import RecordError
from agent.replay.segment import Bytes, pieces, segment_path, segments, sync_folder, write_whole

REASON = "it was damaged on the disk"


def repair(folder: Path) -> Report:
    """Cuts torn tails, puts a gap where records are damaged or missing, and rebuilds indexes.

    A segment that had to be written again is kept beside the new one as `NAME.seg.damaged`, a tail as `NAME.seg.torn`.

    Returns:
        What `verify` finds afterwards, and what was done.

    Raises:
        ValueError: there is no journal, another process uses it, or its `journal.json` cannot be read.
        OSError: there is not enough space; the journal is as it was, or repaired in part.
    """
    layout, done = JournalInfo.read(folder).layout, list[str]()
    lock = lock_journal(folder)
    try:
        for session, path in session_folders(folder).items():
            done += _Repair(path, session, layout).run()
    finally:
        os.close(lock)
    report = verify(folder)
    report.repairs = done
    return report


def mend_stream(folder: Path, session: int) -> list[str]:
    """Makes a stream whole that is not a journal's, as `repair` does, from its oldest record on; returns what was done.

    Raises:
        OSError: there is not enough space.
    """
    return _Repair(folder, session, None).mend(next(iter(segments(folder)), 0))


class _Repair:
    """Of one session."""

    def __init__(self, folder: Path, session: int, layout: Layout | None) -> None:
        self._folder, self._session, self._layout = folder, session, layout
        self._done: list[str] = []

    def run(self) -> list[str]:
        """Repairs it; returns what was done."""
        self.mend(0)
        for first in segments(self._folder)[:-1]:
            index = build_index(self._folder, first)
            if read_index(self._folder, first) != index:
                index.write(self._folder)
                self._done.append(f"rebuilt {index_path(self._folder, first)}")
        return self._done

    def mend(self, number: int) -> list[str]:
        """Makes it go on from record to record, beginning with `number`; returns what was done."""
        firsts = segments(self._folder)
        if firsts:
            self._cut_torn(segment_path(self._folder, firsts[-1]))
        for first, after in zip(firsts, [*firsts[1:], None], strict=True):
            number = self._mend(first, number, after)
        return self._done

    def _cut_torn(self, path: Path) -> None:
        """Cuts what stands behind the last whole record of the last segment."""
        last = max(pieces(path), key=lambda piece: piece.offset, default=None)
        if last is None or last.record is not None:
            return
        with open(path, "r+b") as file:
            file.seek(last.offset)
            kept = _free(path.with_name(f"{path.name}.torn"))
            write_whole(kept, file.read())
            file.truncate(last.offset)
            os.fsync(file.fileno())
        self._done.append(f"cut a torn tail of {last.size} bytes off {path}; they are in {kept.name}")

    def _mend(self, first: int, number: int, after: int | None) -> int:
        """Makes a segment go from record `number` on to record `after`, where one follows; returns where it ends."""
        old, new = segment_path(self._folder, first), segment_path(self._folder, number)
        whole, end = self._survey(old, number, after)
        if whole and old == new:
            return end
        part = new.with_name(f"{new.name}.part")
        with open(part, "wb") as file:
            for record, next_number, _ in self._records(old, number, after):
                file.write(record)
                end = next_number
            file.flush()
            os.fsync(file.fileno())
        kept = _free(old.with_name(f"{old.name}.damaged"))
        os.link(old, kept)
        if end == number:
            part.unlink()  # all of it stands elsewhere
        else:
            part.replace(new)
        if old != new or end == number:
            old.unlink()
        index_path(self._folder, first).unlink(missing_ok=True)
        sync_folder(self._folder)
        self._done.append(f"wrote {new} again with gaps where records are missing; the old bytes are in {kept.name}")
        return end

    def _survey(self, path: Path, number: int, after: int | None) -> tuple[bool, int]:
        """Whether a segment is as it should be, and if so, where it ends."""
        good, end = 0, number
        for record, next_number, is_gap in self._records(path, number, after):
            if is_gap:
                return False, number
            good, end = good + len(record), next_number
        return good == path.stat().st_size, end

    def _records(self, path: Path, number: int, after: int | None) -> Iterator[tuple[Bytes, int, bool]]:
        """Good records from `number` on, and gaps between them: bytes, the number that follows, whether put in here."""
        for piece in pieces(path):
            try:
                entry = entry_of_piece(piece, self._session, self._layout)
            except RecordError:
                continue
            if entry.number < number or (after is not None and entry.next > after):
                continue  # it stands there twice, or where it cannot be
            if entry.number > number:
                yield self._gap(number, entry.number), entry.number, True
            assert piece.record is not None
            yield piece.record, entry.next, False
            number = entry.next
        if after is not None and number < after:
            yield self._gap(number, after), after, True

    def _gap(self, number: int, to: int) -> bytes:
        return encode(Entry(self._session, number, Gap(to, -1, REASON)))


def _free(path: Path) -> Path:
    """The path, or the first of its kind that is not taken."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}{number}")
    return found
