"""Making a damaged journal whole again: what is lost becomes a gap, what is good stays, and the damaged bytes are kept."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agent.replay.journal_check import Report, entry_of_piece, verify
from agent.replay.journal_index import build_index, index_path, read_index
from agent.replay.journal_info import JournalInfo, lock_journal, session_folders
from agent.replay.record import Entry, Gap, Layout, RecordError, encode
from agent.replay.segment import Bytes, pieces, segment_path, segments, sync_folder, write_whole

REASON = "it was damaged in the journal"


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


class _Repair:
    """Of one session."""

    def __init__(self, folder: Path, session: int, layout: Layout) -> None:
        self._folder, self._session, self._layout = folder, session, layout
        self._done: list[str] = []

    def run(self) -> list[str]:
        """Repairs it; returns what was done."""
        firsts, number = segments(self._folder), 0
        if firsts:
            self._cut_torn(segment_path(self._folder, firsts[-1]))
        for first, after in zip(firsts, [*firsts[1:], None], strict=True):
            number = self._mend(first, number, after)
        for first in segments(self._folder)[:-1]:
            index = build_index(self._folder, first)
            if read_index(self._folder, first) != index:
                index.write(self._folder)
                self._done.append(f"rebuilt {index_path(self._folder, first)}")
        return self._done

    def _cut_torn(self, path: Path) -> None:
        """Cuts what stands behind the last whole record of the last segment."""
        last = None
        for last in pieces(path):
            pass
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
        good, end = 0, number
        for record, next_number, is_gap in self._records(old, number, after):
            good, end = good + (0 if is_gap else len(record)), next_number
            if is_gap:
                good = -1
                break
        if first == number and good == old.stat().st_size:
            return end
        part = new.with_name(f"{new.name}.part")
        with open(part, "wb") as file:
            end = number
            for record, next_number, _ in self._records(old, number, after):
                file.write(record)
                end = next_number
            file.flush()
            os.fsync(file.fileno())
        kept = _free(old.with_name(f"{old.name}.damaged"))
        os.link(old, kept)
        sync_folder(self._folder)
        part.replace(new)
        if new != old:
            old.unlink()
        with suppress(FileNotFoundError):
            index_path(self._folder, first).unlink()
        sync_folder(self._folder)
        self._done.append(f"wrote {new} again with gaps for what was damaged; the old bytes are in {kept.name}")
        return end

    def _records(self, path: Path, number: int, after: int | None) -> Iterator[tuple[Bytes, int, bool]]:
        """Good records from `number` on, and gaps where there is none: bytes, the number that follows, whether it is a gap."""
        for piece in pieces(path):
            with suppress(RecordError):
                entry = entry_of_piece(piece, self._session, self._layout)
                if entry.number < number or piece.record is None or (after is not None and entry.next > after):
                    continue  # it stands there twice, or where it cannot be
                if entry.number > number:
                    yield self._gap(number, entry.number), entry.number, True
                yield piece.record, entry.next, False
                number = entry.next
        if after is not None and number < after:
            yield self._gap(number, after), after, True

    def _gap(self, number: int, to: int) -> bytes:
        return encode(Entry(self._session, number, Gap(to, -1, REASON)))


def _free(path: Path) -> Path:
    """The path, or the first of its kind that is not taken."""
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}{number}")
    return found
