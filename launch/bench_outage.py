"""Whether an actor holds its control rate while the learner is away, and whether all that it did arrives afterwards."""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.replay.journal import JournalReader
from agent.replay.journal_check import verify
from launch.address import Address
from launch.recipes import Collect, CollectRecipe
from launch.runs import progress_bar
from launch.sockets import LearnerSockets
from launch.stages import collect_stage
from launch.tasks import find_task

AWAY_S, ACTING_S = 60.0, 15.0  # that the learner is away, and there before and after
START_S = 120.0  # for processes to begin
READ_AT_ONCE = 512
SMALL = "--learning.networks.actor-hidden 64 64 --learning.networks.critic-hidden 64 64 --online.batch-size 64"
FREE = "--online.bridge rlpd --online.pace free --evaluation.trials 1 --evaluation.every-env-steps 100000"


def outage(repeats: int = 1) -> dict[str, Any]:
    """An actor at its task's rate, whose learner is killed for a minute, `repeats` times in one run."""
    with tempfile.TemporaryDirectory() as name, progress_bar() as progress:
        folder = Path(name)
        hz = find_task("peg_insertion").hz
        steps = int(hz * repeats * (AWAY_S + 2 * ACTING_S))
        collect_stage(CollectRecipe(collect=Collect(transitions=600)), folder / "data", progress)
        with closing(LearnerSockets(Address("127.0.0.1", 0), None, 1 << 20)) as sockets:
            address = str(sockets.address)  # two ports that were free a moment ago
        run = Processes(folder, address, steps)
        try:
            caught_up_s = [run.take_away(hz) for _ in range(repeats)]
            said = run.wait_for_end()
        finally:
            run.close()
        report = verify(folder / "run" / "journal")
    arrived = sum(session.transitions for session in report.sessions)
    return {
        "away_s": AWAY_S,
        "outages": repeats,
        "hz": hz,
        "actor": {
            name: said[name] for name in ("env_steps", "late_steps", "period_p50_ms", "period_p99_ms", "period_max_ms")
        },
        "arrived": arrived,
        "missing": said["env_steps"] - arrived,
        "journal_whole": report.ok,
        "all_arrived_after_s": [round(s, 1) for s in caught_up_s],
    }


class Processes:
    """A learner and an actor at its task's rate, each in its own process.

    Args:
        folder: of everything; its data set is there.
        address: of the learner.
        steps: environment steps of the run.
    """

    def __init__(self, folder: Path, address: str, steps: int) -> None:
        segue = [sys.executable, "-m", "launch.cli"]
        data = ["--data", str(folder / "data"), "--online.env-steps", str(steps)]
        learner = [*segue, "learner", "--out", str(folder / "run"), "--bind", address, "--resume"]
        self._learner_command = [*learner, *data, *SMALL.split(), *FREE.split()]
        self._journal = folder / "run" / "journal"
        self._reader: JournalReader | None = None
        self._count = 0
        self._learner = self._start_learner()
        actor = [*segue, "actor", "--connect", address, "--out", str(folder / "actor"), "--realtime", "--json"]
        self._actor = subprocess.Popen(actor, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _start_learner(self) -> subprocess.Popen:
        return subprocess.Popen(self._learner_command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def take_away(self, hz: float) -> float:
        """Kills the learner for a while; seconds from its new start until all of that while has arrived."""
        before = self._arrived()
        self._wait_until(before + int(hz * ACTING_S), START_S + ACTING_S)
        self._learner.kill()
        self._learner.communicate()
        before = self._arrived()
        time.sleep(AWAY_S)
        start_s = time.monotonic()
        self._learner = self._start_learner()
        self._wait_until(before + int(hz * AWAY_S), START_S)
        return time.monotonic() - start_s

    def wait_for_end(self) -> dict[str, Any]:
        """What the actor said at the end of the run."""
        out, errors = self._actor.communicate(timeout=10 * START_S)
        if self._actor.returncode:
            raise RuntimeError(f"the actor failed: {errors.strip()}")
        self._learner.communicate(timeout=START_S)
        return json.loads(out)

    def close(self) -> None:
        """Ends what is still running."""
        for process in (self._learner, self._actor):
            process.kill()
            process.communicate()

    def _arrived(self) -> int:
        """Entries in the journal."""
        if self._reader is None and (self._journal / "journal.json").exists():
            self._reader = JournalReader(self._journal)
        while self._reader is not None and (entries := self._reader.read(READ_AT_ONCE)):
            self._count += len(entries)
        return self._count

    def _wait_until(self, count: int, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while self._arrived() < count:
            for name, process in (("learner", self._learner), ("actor", self._actor)):
                if process.poll() is not None:
                    raise RuntimeError(f"the {name} ended early: {process.communicate()[1].strip()}")
            if time.monotonic() > until_s:
                raise RuntimeError(f"only {self._arrived()} of {count} entries arrived within {timeout_s:.0f} s")
            time.sleep(0.1)
