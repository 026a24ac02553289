"""Runs of real processes that are killed at random moments, and a witness who knows what must have come through.

`python -m tests.launch.kills --kills 20 --who any --pace lockstep --seed 1 --out DIR` prints what came of one.

The witness is independent of the code under test. Each actor's process writes a line as soon as an entry is in its spool: the
session, its number, and the checksum of its bytes. At the end the journal's files are read here, byte by byte, and compared.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("--learning.networks.actor-hidden", "16", "16", "--learning.networks.critic-hidden", "16", "16")
NETWORKS += ("--learning.networks.critics", "3")
ONLINE = ("--online.bridge-settings", "steps", "80", "--online.batch-size", "32", "--online.replay-capacity", "200")
TINY = (*NETWORKS, *ONLINE, "--evaluation.trials", "2", "--evaluation.every-env-steps", "100")
SAVE_EVERY_S = 1.0  # a checkpoint this often, so that a run is taken up from many of them
START_S, STALLED_S = 8.0, 120.0  # in which a process starts; without progress for so long, a run hangs
RECORD_BYTES = 400  # about
SETTLE_S = 15.0  # for actors to leave after their learner


def environment(cache: Path) -> dict[str, str]:
    """One thread as in the tests, so that two runs are the same bit for bit; programs are compiled once for all processes."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**os.environ, **threads, **compiled, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "SEGUE_TRACEBACK": "1"}


def process(role: str, witness: str, arguments: list[str]) -> None:
    """What runs in a process of its own: `segue`, where an actor's spool has a witness and a learner saves often."""
    from agent.replay.entry import Step, encode
    from launch import cli, stages, training
    from launch.spool import Spool

    training.SAVE_EVERY_S = stages.SAVE_EVERY_S = SAVE_EVERY_S
    if role == "actor":
        file, append = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), Spool.append

        def witnessed(self: Spool, entry: Any) -> None:
            append(self, entry)
            sequence = entry.event.transition.sequence if isinstance(entry.event, Step) else -1
            line = f"{entry.session} {entry.number} {sequence} {zlib.crc32(encode(entry))}\n"
            os.write(file, line.encode())

        Spool.append = witnessed  # type: ignore[method-assign]
    sys.argv = ["segue", role, *arguments]
    cli.main()


@dataclass
class Sighting:
    """A record where it was seen: bytes' checksum, place among the transitions (-1 for others), header where there is one."""

    crc: int
    sequence: int
    header: dict[str, Any] = field(default_factory=dict)


def read_witness(path: Path) -> dict[int, list[tuple[int, Sighting]]]:
    """By session, number and sighting of each line in order; a line that a kill tore is left out."""
    seen: dict[int, list[tuple[int, Sighting]]] = {}
    for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
        if line.endswith("\n"):
            session, number, sequence, crc = map(int, line.split())
            seen.setdefault(session, []).append((number, Sighting(crc, sequence)))
    return seen


def read_streams(folder: Path) -> dict[int, list[tuple[int, Sighting]]]:
    """The same of the streams in a journal or a spool, straight from the bytes of the files."""
    found: dict[int, list[tuple[int, Sighting]]] = {}
    for stream in sorted(path for path in folder.iterdir() if path.is_dir()):
        rows = found.setdefault(int(stream.name.split("-")[1], 16), [])
        for segment in sorted(stream.glob("*.seg")):
            rows += ((h["number"], Sighting(crc, h.get("sequence", -1), h)) for h, crc in _records(segment))
    return found


def _records(segment: Path) -> Iterator[tuple[dict[str, Any], int]]:
    data, offset = segment.read_bytes(), 0
    while offset < len(data):
        head, size = (int.from_bytes(data[offset + at : offset + at + 4], "little") for at in (4, 8))
        assert data[offset : offset + 4] == b"SGR1", f"{segment}: no record at byte {offset}"
        yield msgpack.unpackb(data[offset + 16 : offset + 16 + head]), zlib.crc32(data[offset : offset + size])
        offset += size


def compare(witness: Path, journal: Path, spools: list[Path]) -> dict[str, int]:
    """What the witness saw beside what the journal holds.

    `kept` were told when the learner had left, and are in a spool still. `lost` are nowhere. `unseen` are in the journal and
    not with the witness: of each killed session its last at most, told in the moment of the kill.
    """
    seen, there = read_witness(witness), read_streams(journal)
    spooled = {session: dict(rows) for spool in spools for session, rows in read_streams(spool).items()}
    counts: Counter[str] = Counter(sessions=len(there), told=sum(map(len, seen.values())))
    for session, lines in seen.items():
        held, told = dict(there.get(session, [])), dict(lines)
        assert len(told) == len(lines), f"session {session:016x}: the witness saw a number twice"
        for number, sighting in lines:
            if number not in held:
                kept = spooled.get(session, {}).get(number)
                counts["kept" if kept is not None and kept.crc == sighting.crc else "lost"] += 1
            elif held[number].crc != sighting.crc:
                counts["altered"] += 1
        unseen = sorted(held.keys() - told.keys())
        counts["unseen"] += len(unseen)
        counts["invented"] += len(unseen) - (unseen == [len(lines)])
    for session, rows in there.items():
        numbers = [number for number, _ in rows]
        counts["invented"] += max(len(rows) - 1, 0) if session not in seen else 0
        counts["duplicated"] += len(numbers) - len(set(numbers))
        counts["holes"] += len(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        counts["reordered"] += numbers != sorted(numbers)
        counts["unchained"] += _breaks([sighting.header for _, sighting in rows])
        counts["transitions"] += sum(sighting.sequence >= 0 for _, sighting in rows)
    names = ("lost", "duplicated", "reordered", "altered", "invented", "holes", "unchained", "kept", "unseen")
    return {name: counts[name] for name in ("sessions", "told", "transitions", *names)}


def _breaks(headers: list[dict[str, Any]]) -> int:
    """How often an episode does not go on from the transition before, or a transition's place is not the next."""
    breaks, open_episode, sequence = 0, False, 0
    for header in headers:
        if header["kind"] != "transition":
            open_episode = False
            continue
        carries = any(name.startswith("obs/") for name, _, _ in header["arrays"])
        breaks += header["sequence"] != sequence or header["first"] == open_episode or carries == open_episode
        open_episode, sequence = not (header["terminated"] or header["truncated"]), header["sequence"] + 1
    return breaks


FLAWS = ("lost", "duplicated", "reordered", "altered", "invented", "holes", "unchained")


def fingerprint(run: Path) -> str:
    """SHA-256 of a run's last policy, leaf by leaf."""
    import jax
    import numpy as np

    from launch.policies import load_policy

    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(load_policy(run)[0].params)[0]:
        digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def free_port() -> int:
    """The lower of two ports in a row that are free at this moment."""
    while True:
        with closing(socket.socket()) as one, closing(socket.socket()) as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@dataclass
class Run:
    """A learner and its actors in processes of their own.

    Attributes:
        folder: of everything.
        start: the learner's flags that say where it starts from, such as `--checkpoint`.
        env_steps: budget.
        pace, actors: `lockstep` with one actor, or `free` with several.
        realtime: actors hold the task's rate.
        cache: of compiled programs.
    """

    folder: Path
    start: list[str]
    env_steps: int
    pace: str = "lockstep"
    actors: int = 1
    realtime: bool = False
    cache: Path | None = None
    flags: tuple[str, ...] = ()
    starts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.run, self.witness = self.folder / "run", self.folder / "witness.txt"
        self.journal = self.run / "journal"
        self.names = ["learner", *(f"actor{i}" for i in range(self.actors))]
        self._processes: dict[str, subprocess.Popen] = {}
        self._environment = environment(self.cache or self.folder / "compiled")

    def begin(self, name: str) -> None:
        """Starts a process, or starts it again."""
        if name == "learner":
            arguments = ["--out", str(self.run), "--bind", self.address, "--resume", *self.start, *TINY, *self.flags]
            arguments += ["--online.env-steps", str(self.env_steps), "--online.pace", self.pace]
        else:
            number = name.removeprefix("actor")
            arguments = ["--connect", self.address, "--out", str(self.folder / name), "--actor-id", number]
            arguments += ["--realtime"] if self.realtime else []
        role = "learner" if name == "learner" else "actor"
        command = [sys.executable, "-m", "tests.launch.kills", "--process", role, str(self.witness), *arguments]
        with open(self.folder / f"{name}.log", "a") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.starts[name] += 1

    def kill(self, name: str) -> None:
        """Kills a process at once."""
        self._processes[name].send_signal(signal.SIGKILL)
        self._processes[name].wait()

    def ended(self, name: str) -> bool:
        """Whether a process ended by itself. Raises `RuntimeError` with its last words where it failed."""
        code = self._processes[name].poll()
        if code:
            words = (self.folder / f"{name}.log").read_text()[-3000:]
            raise RuntimeError(f"{name} ended with exit code {code}; {self.folder}; it said:\n{words}")
        return code == 0

    @property
    def written(self) -> int:
        """Bytes of the journal so far."""
        return sum(path.stat().st_size for path in self.journal.rglob("*.seg"))

    def wait(self, until: Callable[[], bool]) -> bool:
        """Whether it came true before the learner ended by itself. Raises `TimeoutError` where nothing moves any more."""
        moved_s, written = time.monotonic(), self.written
        while not until():
            if self.ended("learner"):
                return False
            for name in self.names[1:]:
                self.ended(name)
            if self.written != written:
                moved_s, written = time.monotonic(), self.written
            if time.monotonic() - moved_s > STALLED_S:
                raise TimeoutError(f"run in {self.folder} has written nothing for {STALLED_S} s")
            time.sleep(0.01)
        return True

    def finish(self) -> None:
        """Returns when all have ended by themselves; an actor that finds its learner gone is stopped."""
        self.wait(lambda: False)
        end_s = time.monotonic() + SETTLE_S
        while not all(self.ended(name) for name in self.names):
            if time.monotonic() > end_s:
                break
            time.sleep(0.05)
        self.close()

    def close(self) -> None:
        """Ends what is still there."""
        for running in self._processes.values():
            if running.poll() is None:
                running.terminate()
        for running in self._processes.values():
            running.wait(90)  # a machine with many tests on it takes its time to start what is then to end

    def outcome(self) -> dict[str, Any]:
        """What came of it."""
        spools = [spool for name in self.names[1:] if (spool := self.folder / name / "spool").exists()]
        found = compare(self.witness, self.journal, spools)
        pace = json.loads((self.run / "pace.json").read_text())
        return {**found, "parameters": fingerprint(self.run), "starts": dict(self.starts), "pace": pace}


def carry_out(run: Run, kills: list[list[str]], seed: int) -> dict[str, Any]:
    """Carries out a run and kills the named processes together, one group after the other, at random moments.

    A quarter of the kills come within a process's first seconds, the others after the journal has grown.
    """
    rng, made = random.Random(seed), []
    begun_s = time.monotonic()
    try:
        for name in run.names:
            run.begin(name)
        for group in kills:
            if rng.random() < 0.25:
                at_s = time.monotonic() + rng.uniform(0.0, START_S)
                there = run.wait(lambda at_s=at_s: time.monotonic() >= at_s)
            else:
                size = run.written + rng.randrange(1, 100 * RECORD_BYTES)
                there = run.wait(lambda size=size: run.written >= size)
            if not there:
                break
            time.sleep(rng.uniform(0.0, 0.1))
            for name in group:
                run.kill(name)
            made.append({"killed": group, "after_s": round(time.monotonic() - begun_s, 2), "bytes": run.written})
            time.sleep(rng.uniform(0.0, 1.0))  # away for a while
            for name in group:
                run.begin(name)
        run.finish()
    finally:
        run.close()
    seconds = round(time.monotonic() - begun_s, 1)
    return {"kills": len(made), "seconds": seconds, **run.outcome(), "moments": made}


def groups(who: str, kills: int, actors: int, seed: int) -> list[list[str]]:
    """Whom to kill together, each time."""
    rng = random.Random(seed + 1)
    chosen = []
    for _ in range(kills):
        kind = rng.choice(["learner", "actor", "both"]) if who == "any" else who
        actor = f"actor{rng.randrange(actors)}"
        chosen.append({"learner": ["learner"], "actor": [actor], "both": ["learner", actor]}[kind])
    return chosen


def make_pretrained(folder: Path, env: dict[str, str]) -> Path:
    """A data set and a pre-trained run, small."""
    segue = [sys.executable, "-m", "launch.cli"]
    small = ["--offline.updates", "60", "--offline.batch-size", "32", "--offline.coef", "sampled_actions", "2"]
    for command in (
        ["collect", "--collect.transitions", "600", "--out", str(folder / "data")],
        ["pretrain", "--data", str(folder / "data"), "--out", str(folder / "pretrain"), *small, *NETWORKS],
    ):
        subprocess.run([*segue, *command], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    return folder / "pretrain"


def main() -> None:
    """A killed run, beside one that was not in lockstep with kills of the learner only."""
    if sys.argv[1:2] == ["--process"]:
        process(sys.argv[2], sys.argv[3], sys.argv[4:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", choices=["learner", "actor", "both", "any"], default="any")
    parser.add_argument("--pace", choices=["lockstep", "free"], default="lockstep")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--env-steps", type=int, default=3000)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    shutil.rmtree(asked.out, ignore_errors=True)
    cache = asked.out / "compiled"
    asked.out.mkdir(parents=True)
    start = ["--checkpoint", str(make_pretrained(asked.out, environment(cache)))]
    how: dict[str, Any] = {"env_steps": asked.env_steps, "pace": asked.pace, "actors": asked.actors, "cache": cache}
    how["realtime"] = asked.pace == "free"
    killed = carry_out(
        Run(asked.out / "killed", start, **how), groups(asked.who, asked.kills, asked.actors, asked.seed), asked.seed
    )
    result = {"killed": killed, "flawless": not any(killed[name] for name in FLAWS)}
    if asked.pace == "lockstep":
        result["whole"] = carry_out(Run(asked.out / "whole", start, **how), [], asked.seed)
        result["same_parameters"] = killed["parameters"] == result["whole"]["parameters"]
        result["budget_met"] = killed["transitions"] == asked.env_steps
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
