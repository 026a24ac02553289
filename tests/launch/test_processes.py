"""Learner and actor as processes, killed and interrupted: what they did comes through, once and in order."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.runs import read_json, read_lines
from tests.launch.kills import (
    FLAWS,
    RECORD_BYTES,
    ROOT,
    TINY,
    Run,
    carry_out,
    environment,
    fingerprint,
    groups,
    read_streams,
)
from tests.launch.waiting import started

ENV_STEPS = 300
LIMIT_S = 120.0  # for anything that is waited for
ENDS_S = 15.0  # after Ctrl-C: what is under way is finished, files are closed, the actor is ended


@pytest.fixture(scope="module")
def cache(compiled: Path) -> Path:
    """Compiled programs of all processes, this one's among them."""
    return compiled


class Finetune:
    """`segue finetune` in a process of its own, which no test leaves behind."""

    def __init__(self, folder: Path, pretrained: Path, cache: Path, *flags: str) -> None:
        self.folder = folder
        command = [
            sys.executable,
            "-m",
            "launch.cli",
            "finetune",
            "--checkpoint",
            str(pretrained),
            "--out",
            str(folder),
        ]
        command += [*TINY, "--online.env-steps", str(ENV_STEPS), "--json", *flags]
        env = {name: value for name, value in environment(cache).items() if name != "SEGUE_TRACEBACK"}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = started(command, cwd=ROOT, env=env, **pipes)

    def __enter__(self) -> "Finetune":
        return self

    def __exit__(self, *_: object) -> None:
        actors = [] if self.process.poll() is not None else self.actors
        self.process.kill()
        self.process.wait()
        for actor in actors:
            wait(lambda actor=actor: not is_there(actor), "its actor to leave", ENDS_S)
        self.process.stdout.close()
        self.process.stderr.close()

    @property
    def actors(self) -> list[int]:
        """Process ids of its children that act."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if "actor" in command_of(int(child))]

    def wait_for_steps(self, count: int) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.end()
            return (self.folder / "journal").exists() and written(self.folder) > count * RECORD_BYTES

        wait(there, f"{count} transitions")

    def end(self, seconds: float = LIMIT_S) -> tuple[int, str, str]:
        """Exit code and what it said."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "journal").rglob("*.seg"))


def command_of(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait(until: Callable[[], bool], what: str, seconds: float = LIMIT_S) -> None:
    end_s = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end_s, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


def transitions(folder: Path) -> int:
    return sum(seen.sequence >= 0 for rows in read_streams(folder / "journal").values() for _, seen in rows)


@pytest.fixture(scope="module")
def whole(pretrained: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with Finetune(folder, pretrained, cache, "--in-process") as alone:
        code, out, err = alone.end()
    assert code == 0, err
    assert json.loads(out)["curve"][-1]["env_steps"] == ENV_STEPS
    return folder


def timeless(folder: Path, name: str) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "wall_s"} for row in read_lines(folder / f"{name}.jsonl")]


def assert_flawless(outcome: dict) -> None:
    assert {name: outcome[name] for name in FLAWS} == dict.fromkeys(FLAWS, 0), outcome


def killed(tmp_path: Path, pretrained: Path, cache: Path, who: str, kills: int, seed: int, **how) -> dict:
    """What came of a run of which processes were killed; seeds are such that each kill waits for the journal to grow."""
    run = Run(tmp_path / "killed", ["--checkpoint", str(pretrained)], ENV_STEPS, cache=cache, **how)
    outcome = carry_out(run, groups(who, kills, run.actors, seed), seed)
    assert outcome["kills"] == kills, outcome
    assert_flawless(outcome)
    return outcome


def test_a_learner_that_is_killed_again_and_again_learns_the_same(tmp_path, pretrained, cache, whole):
    """Lockstep: its actor waits where it stands, so not a bit differs from a run in one process."""
    outcome = killed(tmp_path, pretrained, cache, "learner", 2, seed=0)
    assert outcome["starts"] == {"learner": 3, "actor0": 1}
    assert (outcome["sessions"], outcome["transitions"], outcome["kept"]) == (1, ENV_STEPS, 0)
    assert outcome["parameters"] == fingerprint(whole)
    for name in ("scores", "episodes"):
        assert timeless(tmp_path / "killed" / "run", name) == timeless(whole, name)


def test_when_both_are_killed_everything_told_arrives_once_and_the_budget_is_met(tmp_path, pretrained, cache):
    outcome = killed(tmp_path, pretrained, cache, "any", 2, seed=9)
    assert min(outcome["starts"].values()) > 1, "seed: both must be killed"
    assert outcome["transitions"] == ENV_STEPS
    assert outcome["pace"]["env_steps"] == ENV_STEPS
    assert outcome["pace"]["updates"] == 4 * (ENV_STEPS - 80)
    assert outcome["pace"]["transitions_lost"] == 0


def test_two_actors_at_once_lose_nothing_whoever_is_killed(tmp_path, pretrained, cache):
    outcome = killed(tmp_path, pretrained, cache, "any", 2, seed=7, pace="free", actors=2)
    assert outcome["starts"] == {"learner": 2, "actor0": 2, "actor1": 1}
    assert outcome["transitions"] >= ENV_STEPS
    assert outcome["pace"]["updates"] == 4 * (ENV_STEPS - 80)
    streams = read_streams(tmp_path / "killed" / "run" / "journal")
    acted = {seen.header["actor_id"] for rows in streams.values() for _, seen in rows if seen.sequence >= 0}
    assert acted == {0, 1}


def test_two_processes_do_what_one_does_bit_for_bit(tmp_path, pretrained, cache, whole):
    with Finetune(tmp_path / "two", pretrained, cache) as two:
        code, out, err = two.end()
    assert code == 0, err
    assert json.loads(out)["curve"][-1]["env_steps"] == ENV_STEPS
    assert fingerprint(tmp_path / "two") == fingerprint(whole)
    for name in ("scores", "episodes"):
        assert timeless(tmp_path / "two", name) == timeless(whole, name)
    pace = read_json(tmp_path / "two" / "pace.json")
    assert (pace["pace"], pace["env_steps"], pace["sessions"], pace["messages_refused"]) == (
        "lockstep",
        ENV_STEPS,
        1,
        {},
    )
    assert not list((tmp_path / "two" / "actor" / "spool").rglob("*.seg")), "not all was delivered"


def test_ctrl_c_ends_learner_and_actor_at_once_and_the_run_goes_on_from_there(tmp_path, pretrained, cache):
    with Finetune(tmp_path / "run", pretrained, cache) as cut:
        cut.wait_for_steps(90)
        (actor,) = cut.actors
        cut.process.send_signal(signal.SIGINT)
        begun_s = time.monotonic()
        code, out, err = cut.end(ENDS_S)
        assert code not in (0, None)
        assert time.monotonic() - begun_s < ENDS_S
        assert not is_there(actor)
    said = out + err + (tmp_path / "run" / "actor" / "log.txt").read_text()
    assert "Traceback" not in said, said
    assert "--resume" in err
    assert 0 < transitions(tmp_path / "run") < ENV_STEPS
    with Finetune(tmp_path / "run", pretrained, cache, "--resume") as rest:
        code, out, err = rest.end()
    assert code == 0, err
    assert json.loads(out)["curve"][-1]["env_steps"] == ENV_STEPS
    assert transitions(tmp_path / "run") == ENV_STEPS


def test_an_actor_that_is_killed_is_started_again(tmp_path, pretrained, cache):
    with Finetune(tmp_path / "run", pretrained, cache) as run:
        run.wait_for_steps(60)
        (actor,) = run.actors
        os.kill(actor, signal.SIGKILL)
        code, out, err = run.end()
    assert code == 0, err
    assert "killed by signal 9 and is started again" in err
    assert json.loads(out)["curve"][-1]["env_steps"] == ENV_STEPS
    assert transitions(tmp_path / "run") == ENV_STEPS
    assert len(read_streams(tmp_path / "run" / "journal")) == 2
