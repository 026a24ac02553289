"""Reading one session of a journal as entries, with what each transition leaves to the one before it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from agent.replay.entry import Entry, Layout, Step, decode
from agent.replay.journal_info import session_name
from agent.replay.record import RecordError
from agent.replay.stream_reader import StreamReader


class SessionReader:
    """Entries of one session in order, each transition with its `obs`; an orphan has none.

    Args:
        folder: of the session.
        session: its number.
        layout: what its transitions hold.
        start: number of the record to begin at.

    Attributes:
        next: number of the record that comes next.
    """

    def __init__(self, folder: Path, session: int, layout: Layout, start: int = 0) -> None:
        self.session, self._layout, self.next = session, layout, start
        self._previous: Mapping[str, np.ndarray] | None = None
        self._stream = StreamReader(folder, start)
        self._begun = start == 0  # to begin within a gap is to begin behind it
        if start:
            self._look_back(folder, start - 1)

    def _look_back(self, folder: Path, number: int) -> None:
        """Finds what the transition to begin at has for its `obs`; where that cannot be known it becomes an orphan."""
        with suppress(RecordError):
            for record in StreamReader(folder, number).read(1, until=number + 1):
                self._chain(decode(record, self._layout))

    def read(self, count: int, until: int | None = None) -> list[Entry]:
        """Up to `count` entries that follow, none at or past record `until`.

        Raises:
            RecordError: the next record is damaged or not of this task.
        """
        entries: list[Entry] = []
        for record in self._stream.read(count, until):
            try:
                entry = decode(record, self._layout, self._previous)
                skips = entry.number != self.next and (self._begun or entry.number < self.next)
                if skips or entry.session != self.session:
                    raise RecordError(f"record: it says it is {session_name(entry.session)}'s {entry.number}")
            except RecordError as error:
                self._stream.seek(self.next)
                if entries:
                    break  # those are good; the next call raises it
                where = f"journal {self._stream.folder}: record {self.next}"
                raise RecordError(
                    f"{where}: {str(error).removeprefix('record: ')}; run `segue journal repair`"
                ) from error
            self._chain(entry)
            self.next, self._begun = entry.next, True
            entries.append(entry)
        return entries

    def _chain(self, entry: Entry) -> None:
        self._previous = None
        if isinstance(entry.event, Step) and not entry.event.ends_episode:
            self._previous = entry.event.transition.next_obs


def is_orphan(entry: Entry, layout: Layout) -> bool:
    """Whether it is a transition whose `obs` is lost."""
    return isinstance(entry.event, Step) and entry.event.transition.obs.keys() != layout.obs.keys()
