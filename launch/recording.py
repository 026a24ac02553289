"""A journal of demonstrations that grows, episode by episode."""

import getpass
from datetime import UTC, datetime

from agent.replay.entry import Begin, Entry, Event, Step, encode
from agent.replay.episodes import Tombstones, episodes
from agent.replay.journal import Journal
from launch.actor import new_session


class Recording:
    """A journal of demonstrations that grows.

    Args:
        journal: of them.
        arm: its name, for the record.

    Attributes:
        session: the number of this recording in the journal.
        kept: episodes in the journal that are to be read.
        begun, steps: episodes of this recording, and steps of the last one, which may still be open.
        episodes_before: of earlier recordings, kept or not.
    """

    def __init__(self, journal: Journal, arm: str) -> None:
        self.journal, self.session, self._number, self.is_open = journal, new_session(), 0, False
        for each in episodes(journal.folder):
            if not each.complete:  # a recording was killed in the middle of it
                self._bury(each.session, each.number, "unfinished")
        self.kept, self.begun, self.steps = sum(1 for _ in episodes(journal.folder)), 0, 0
        self.episodes_before = sum(1 for _ in episodes(journal.folder, tombstoned=True))
        self._tell(Begin(0, arm, datetime.now(UTC).isoformat(timespec="seconds")))

    def take(self, step: Step) -> None:
        """A step was taken."""
        self._tell(step)
        self.begun, self.steps = self.begun + step.first, 1 if step.first else self.steps + 1
        self.is_open = not step.ends_episode

    def keep(self) -> None:
        """The episode that ended last stays."""
        self.kept += 1

    def drop(self, reason: str) -> None:
        """The episode that began last is marked: nobody reads it unless they ask for it."""
        self._bury(self.session, self.begun - 1, reason)

    def _tell(self, event: Event) -> None:
        entry = Entry(self.session, self._number, event)
        self.journal.append(entry, encode(entry, self.journal.info.layout))
        self._number = entry.next

    def _bury(self, session: int, number: int, reason: str) -> None:
        Tombstones.discard(self.journal.folder, session, number, reason, getpass.getuser())
