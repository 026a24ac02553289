"""Streams of entries to write, read and break."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agent.replay.entry import EVALUATED, Begin, Entry, Event, Gap, Layout, Scores, Step, encode
from agent.replay.journal import Journal
from agent.replay.journal_info import JournalInfo
from agent.types import Transition

LAYOUT = Layout({"x": ("<f4", (2,)), "image": ("|u1", (2, 3))}, 1)
INFO = JournalInfo(
    task="reach",
    discount=0.5,
    reward_scale=2.0,
    reward_shift=-1.0,
    truncation_value=-2.0,
    layout=LAYOUT,
    provenance="made up here",
)
SESSION = 0xABC


def transition(session: int, sequence: int, end: str = "") -> Transition:
    """One that tells its place: its `obs` is `[sequence, session]` and its reward the sequence."""

    def obs(at: int) -> dict[str, np.ndarray]:
        return {"x": np.array([at, session], np.float32), "image": np.full((2, 3), at % 256, np.uint8)}

    action = np.array([sequence / 1000], np.float32)
    ends = {"terminated": end == "terminated", "truncated": end == "truncated"}
    return Transition(
        obs(sequence), action, action, float(sequence), obs(sequence + 1), **ends, session=session, sequence=sequence
    )


def story(*events: str | Event, session: int = SESSION) -> list[Entry]:
    """A session: a begin, then episodes `T` (terminated), `t` (truncated) or `.` (left), each step before as `-`; or events.

    `"--T"` is an episode of three transitions. After a gap the numbers go on where it ends.
    """
    entries = [Entry(session, 0, Begin(3, "toy", "2026-01-01T00:00:00+00:00"))]
    sequence, goes_on = 0, False
    for event in events:
        for sign in event if isinstance(event, str) else [event]:
            if isinstance(sign, str):
                end = {"T": "terminated", "t": "truncated"}.get(sign, "")
                now: Event = Step(transition(session, sequence, end), not goes_on, success=sign == "T")
                sequence, goes_on = sequence + 1, sign == "-"
            else:
                now, goes_on = sign, False
                sequence += max(now.transitions, 0) if isinstance(now, Gap) else 0
            entries.append(Entry(session, entries[-1].next, now))
    return entries


SCORES = Scores(evaluation=1, calls=40, scores={mode: {"success": 3, "trials": 20} for mode in EVALUATED})


def write(folder: Path, *stories: Sequence[Entry]) -> None:
    """A closed journal of these sessions."""
    journal = Journal.open(folder, INFO)
    for entry in (entry for story in stories for entry in story):
        assert journal.append(entry, encode(entry))
    journal.close()


def told(entries: Iterable[Entry]) -> list[tuple]:
    """All that entries say, to be compared."""
    return [(entry.session, entry.number, *_event(entry.event)) for entry in entries]


def _event(event: Event) -> tuple:
    if not isinstance(event, Step):
        return (event,)
    plain = {**vars(event.transition), "first": event.first, "success": event.success, "fault": event.fault}
    plain["control"] = tuple(sorted(event.control.items()))
    for name in ("obs", "next_obs"):
        plain[name] = {key: (x.dtype.str, x.shape, x.tobytes()) for key, x in plain[name].items()}
    for name in ("action", "executed"):
        plain[name] = plain[name].tobytes()
    return tuple(sorted(plain.items()))
