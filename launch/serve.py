"""The learner's process: a run whose actors are elsewhere, joined to it by sockets."""

import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.markup import escape

from launch.address import Address
from launch.orders import Stopwatch
from launch.receiver import Receiver
from launch.recipe_files import to_plain
from launch.runs import console, read_json, write_json
from launch.sockets import LearnerSockets
from launch.training import Training
from launch.wire import encode_params

IDLE_S = 0.1  # between two looks where nothing arrives
PUBLISH_S = 0.05  # between two publications while running free
GOODBYE_S = 10.0  # without news, for actors to hear that a run is finished
LATE_S = 10.0  # for actors to come that have something of a run that was finished before
LOOK_S = 1.0  # between two looks for what an operator removed, and after the actor's process
RESTARTS = 100  # of an actor that dies; then something is wrong with it


class Server:
    """Runs a training over sockets.

    Args:
        training: the run.
        receiver: its end of the wire.
        folder: of the run; `pace.json` in it is kept up to date.
        watch: looks after what else belongs to the run, once a second.
    """

    def __init__(self, training: Training, receiver: Receiver, folder: Path, watch: Callable[[], None]) -> None:
        self.training, self.receiver, self._watch = training, receiver, watch
        self.waited = Stopwatch()
        self._refusal: str | None = None
        self._there: dict[int, int] = {}  # actors by session
        self._path = folder / "pace.json"
        self._before: dict[str, Any] = read_json(self._path) if self._path.exists() else {}
        self._published, self._published_s, self._looked_s = 0, 0.0, 0.0

    def run(self) -> None:
        """Until the plan is carried out and the actors know it; where it was before, takes what they still have."""
        late_s = LATE_S if self.training.finished else 0.0
        while not self.training.finished:
            busy = self.training.work()
            self._publish()
            self.receiver.order(self.training.orders(self.receiver.live()))
            self._look_after()
            if not busy:
                with self.waited():
                    self.receiver.arrived.wait(IDLE_S)
            self.receiver.arrived.clear()
        self._say_goodbye(late_s)

    def _publish(self) -> None:
        """The parameters, where they have changed; running free not more often than actors can use them."""
        training, now_s = self.training, time.monotonic()
        if training.publication == self._published or training.learner.phase.collect is None:
            return
        if training.free and now_s - self._published_s < PUBLISH_S:
            return
        phase, now = training.learner.phase_index, training.policy_params()
        message = encode_params(self.receiver.learner, training.publication, phase, now)
        self.receiver.publish(training.publication, message)
        self._published, self._published_s = training.publication, now_s

    def _look_after(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            self._watch()
            self._say_who_is_there()
            if self.receiver.newest_refusal != self._refusal:
                self._refusal = self.receiver.newest_refusal
                console.print(f"[yellow]{escape(str(self._refusal))}[/yellow]", soft_wrap=True)
            write_json(self._path, self.pace())
            if self.training.refresh_tombstones():
                console.print("the replay was filled again without what an operator removed")

    def _say_who_is_there(self) -> None:
        """Tells the people at the learner which actors join and leave."""
        there = {
            s: self.training.ledger.sessions[s].actor_id
            for s in self.receiver.live()
            if s in self.training.ledger.sessions
        }
        for session in there.keys() - self._there.keys():
            console.print(f"actor {there[session]} is there, session {session:016x}", highlight=False)
        for session in self._there.keys() - there.keys():
            console.print(
                f"[yellow]actor {self._there[session]} is away, session {session:016x}[/yellow]", highlight=False
            )
        self._there = there

    def _say_goodbye(self, late_s: float) -> None:
        """Actors learn that the run is finished, deliver what they have, and leave; the first may come within `late_s`."""
        begun_s = quiet_s = time.monotonic()
        self._published_s = 0.0
        while (now_s := time.monotonic()) - quiet_s < GOODBYE_S:
            if self.training.work():
                quiet_s = now_s
            if self.receiver.is_alone and now_s - begun_s >= late_s:
                break
            self._publish()
            self.receiver.order(self.training.orders(self.receiver.live()))
            self.receiver.arrived.wait(IDLE_S)
            self.receiver.arrived.clear()
        write_json(self._path, self.pace())

    def pace(self) -> dict[str, Any]:
        """Which side waited for the other, and what went wrong on the way, in all processes of the run so far."""
        training, beats, before = self.training, list(self.receiver.heartbeats().values()), self._before
        counts = {
            "learner_waited_s": self.waited.total_s,
            "actors_waited_s": sum(beat.waited_s for beat in beats),
            "duplicates_dropped": self.receiver.duplicates,
        }
        refused = self.receiver.refused + Counter(before.get("messages_refused", {}))
        return {
            "pace": training.recipe.online.pace,
            "env_steps": training.ledger.env_steps,
            "updates": training.learner.updates,
            "wall_s": round(training.log.wall_s, 2),
            **{name: round(value + before.get(name, 0), 2) for name, value in counts.items()},
            "sessions": len(training.ledger.sessions),
            **training.ledger.rate(),
            "transitions_lost": training.ledger.lost,
            "messages_refused": dict(refused),
        }


def serve(training: Training, sockets: LearnerSockets, folder: Path, watch: Callable[[], None] = lambda: None) -> None:
    """Carries out a run with the actors that join, and leaves `pace.json` in its folder."""
    recipe = to_plain(training.recipe)
    layout, one = training.journal.info.layout, not training.free
    with closing(Receiver(sockets, training.journal, layout, run_name(folder), recipe, one)) as receiver:
        Server(training, receiver, folder, watch).run()


def run_name(folder: Path) -> str:
    """The name of a run, made once: a new run in a folder of the same name is another one."""
    path = folder / "run.json"
    if not path.exists():
        write_json(path, {"run": secrets.token_hex(8)})
    return read_json(path)["run"]


class Child:
    """An actor in a process of its own beside the learner, started again where something kills it.

    Args:
        address: of the learner.
        folder: of the actor; its spool and what it writes to the terminal are there.
        realtime: whether it holds the task's control rate on the wall clock.
        rig: flags that say what stands beside the arm, see `launch.rig.Rig.flags`.
    """

    def __init__(self, address: Address, folder: Path, realtime: bool = False, rig: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log.txt"
        self._command = [sys.executable, "-m", "launch.cli", "actor", "--connect", str(address), "--out", str(folder)]
        self._command += ["--parent-pid", str(os.getpid()), *(["--realtime"] if realtime else []), *rig]
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        with open(self._log, "a") as log:
            # Its own session: Ctrl-C reaches the learner, which ends the actor in order.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def watch(self) -> None:
        """Starts it again where a signal ended it. Raises `RuntimeError` with its own words where it gave up."""
        code = self._process.poll()
        if code is None or code == 0:
            return
        if code > 0 or self.restarts >= RESTARTS:
            words = self._log.read_text().strip().splitlines() or ["nothing"]
            raise RuntimeError(f"the actor ended with exit code {code}, see {self._log}; it said: {words[-1]}")
        self.restarts += 1
        console.print(f"[yellow]the actor was killed by signal {-code} and is started again[/yellow]")
        self._start()

    def close(self) -> None:
        """Lets it leave, or ends it."""
        try:
            self._process.wait(GOODBYE_S if sys.exc_info()[0] is None else 0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()


def serve_with_actor(training: Training, folder: Path, realtime: bool = False, rig: Sequence[str] = ()) -> None:
    """Carries out a run with one actor of its own, in a process beside this one."""
    size = training.journal.info.layout.max_bytes
    with (
        closing(LearnerSockets(Address("127.0.0.1", 0), None, size)) as sockets,
        closing(Child(sockets.address, folder / "actor", realtime, rig)) as child,
    ):
        serve(training, sockets, folder, child.watch)
