"""`segue journal`: what a run's journal holds, whether it is whole, and which episodes are to be left out of training."""

import os
from pathlib import Path
from typing import Any, Literal

from agent.replay.episodes import Tombstones, episodes
from agent.replay.journal_check import Report, verify
from agent.replay.journal_info import JournalInfo, session_name, session_number
from agent.replay.journal_repair import repair

What = Literal["show", "verify", "repair", "discard", "restore"]
JOURNAL = "journal"  # the folder of a journal within that of its run


def look_after(what: What, folder: Path, episode: str | None, reason: str) -> tuple[bool, dict[str, Any]]:
    """Does what is asked for; whether the journal is whole, and facts for people.

    Args:
        what: see `segue journal --help`.
        folder: of a run, or of its journal.
        episode: `SESSION:NUMBER`, to discard or restore.
        reason: why it is discarded.

    Raises:
        ValueError: there is no journal or no such episode, or something that is needed was not given.
    """
    folder = folder / JOURNAL if (folder / JOURNAL / "journal.json").exists() else folder
    JournalInfo.read(folder)  # which says so where there is none
    if what == "restore" and reason:
        raise ValueError("segue journal restore: takes no --reason; leave it out")
    if what in ("discard", "restore"):
        return True, _bury(what, folder, episode, reason)
    if episode is not None or reason:
        raise ValueError(f"segue journal {what}: takes neither --episode nor --reason; leave them out")
    if what == "show":
        return True, contents(folder)
    report = verify(folder) if what == "verify" else repair(folder)
    return report.ok, _as_facts(folder, report)


def contents(folder: Path) -> dict[str, Any]:
    """What a journal holds, an episode a row. Streams: however long the journal, one episode is in memory."""
    info, rows = JournalInfo.read(folder), []
    for each in episodes(folder, tombstoned=True):
        end = "terminal" if each.transitions[-1].terminated else "time limit"
        ended = "success" if each.success else each.fault or (end if each.complete else "unfinished")
        rows.append(
            {
                "episode": f"{session_name(each.session)}:{each.number}",
                "env_steps": len(each.transitions),
                "return": round(sum(t.reward for t in each.transitions), 3),
                "ended": ended + (", discarded" if each.tombstoned else ""),
            }
        )
    total = sum(row["env_steps"] for row in rows)
    return {"journal": str(folder), "task": info.task, "made by": info.provenance, "env_steps": total, "episodes": rows}


def _as_facts(folder: Path, report: Report) -> dict[str, Any]:
    sessions = [
        {
            "session": session_name(s.session),
            "transitions": s.transitions,
            "episodes": s.complete + s.open,
            "MB": s.nbytes / 1e6,
        }
        for s in report.sessions
    ]
    facts: dict[str, Any] = {"journal": str(folder), "whole": report.ok, "sessions": sessions or "none"}
    facts |= {"findings": [str(finding) for finding in report.findings]} if report.findings else {}
    return facts | ({"repairs": report.repairs} if report.repairs else {})


def _bury(what: What, folder: Path, episode: str | None, reason: str) -> dict[str, Any]:
    if episode is None:
        raise ValueError(
            f"segue journal {what}: name the episode with --episode SESSION:NUMBER, as `segue journal show` does"
        )
    name, _, number = episode.partition(":")
    if not number.isdecimal():
        raise ValueError(f"--episode {episode}: give SESSION:NUMBER, as `segue journal show` names it")
    session, who = session_number(name), os.environ.get("USER") or f"user {os.getuid()}"
    if what == "discard":
        if not reason:
            raise ValueError("segue journal discard: say why with --reason; it is kept with the episode")
        Tombstones.discard(folder, session, int(number), reason, who)
    else:
        Tombstones.restore(folder, session, int(number), who)
    return {"episode": episode, "discarded": what == "discard", "by": who}
