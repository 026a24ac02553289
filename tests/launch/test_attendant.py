"""Who looks at an arm that was stopped: the program, a human with keys, or nobody; and a run that goes on after a human has."""

import getpass
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from agent.replay.entry import Step
from agent.replay.journal import JournalReader
from launch.attendant import TWINS_RUNNER, HumanAttendant, nobody, program
from launch.tasks import begin_episode
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from tests.launch.test_cli import TINY_FLAGS
from tests.launch.waiting import eventually, started
from tests.robot_env.scripted_arm import TOY, ScriptedArm


class Room:
    """A human with keys, the first pressed before they know, and what they are told meanwhile; `lost` is a device gone."""

    def __init__(self, *keys: str | None) -> None:
        self.said, self.waits, self.watched = [], 0, 0
        self.keys = list(keys)
        self.attendant = HumanAttendant(self, self.said.append, self.wait)

    def begin(self) -> None: ...

    def verdict(self) -> str | None:
        key = self.keys.pop(0) if self.keys else None
        if key == "lost":
            raise ConnectionError("the device in the human's hand is gone")
        return key

    def wait(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < 100, "they would wait for ever"

    def watch(self) -> None:
        self.watched += 1


def stopped_env() -> RobotEnv:
    env = RobotEnv(TOY, ScriptedArm())
    env.reset(seed=0)
    env.step(np.full(6, np.nan))
    return env


def test_a_human_has_all_their_time_and_only_the_key_of_a_success_says_that_they_looked():
    room, env = Room("success", None, "stop", "lost", "failure", "pause", "discard", "success"), stopped_env()
    begin_episode(env, room.attendant, 1, watch=room.watch)
    assert (room.waits, room.watched) == (6, 6)
    assert env.faults[0].acknowledged_by == getpass.getuser()
    assert "is not finite" in room.said[0]
    assert "look at it" in room.said[0]
    assert not env.step(np.zeros(6))[3]


def test_they_are_asked_again_where_the_arm_cannot_be_reached_yet_and_where_the_reset_fails():
    room, env = Room(None, "success", None, "success", "lost", "success"), stopped_env()
    refusals = iter([ConnectionError("the arm cannot be reached")])

    def connect() -> None:
        for refusal in refusals:
            raise refusal

    env.arm.connect = connect
    env.arm.script_reads(TimeoutError("no reply"))
    begin_episode(env, room.attendant, 1)
    assert [re.sub(".*: (.*); look.*", r"\1", said) for said in room.said[1:]] == [
        "the arm cannot be reached",
        "no reply",
    ]
    assert all(fault.acknowledged_by for fault in env.faults)


def test_what_watches_over_the_wait_may_end_it():
    def gone() -> None:
        raise RuntimeError("the learner is gone")

    env = stopped_env()
    with pytest.raises(RuntimeError, match="the learner is gone"):
        begin_episode(env, Room(None).attendant, 1, watch=gone)
    assert env.fault is not None


def test_nobody_leaves_the_fault_and_the_program_tries_twice():
    env = stopped_env()
    with pytest.raises(ArmFault, match="is not finite"):
        begin_episode(env, nobody, 1)
    assert env.fault is not None
    env.arm.script_reads(TimeoutError("one"))
    begin_episode(env, program, 1)
    assert [fault.acknowledged_by for fault in env.faults] == [TWINS_RUNNER] * 2
    env.arm.script_reads(TimeoutError("one"), TimeoutError("two"), TimeoutError("three"))
    with pytest.raises(ArmFault, match="two"):
        begin_episode(env, program, 1)


@contextmanager
def robot(port: int) -> Iterator[tuple[subprocess.Popen, int]]:
    """A lab's server, and its port."""
    command = [sys.executable, "-m", "launch.cli", "robot", "serve", "--pace", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert address
            yield process, int(address[1])
        finally:
            process.kill()


def steps_of(folder: Path) -> list[Step]:
    if not (folder / "journal" / "journal.json").exists():
        return []
    reader = JournalReader(folder / "journal")
    try:
        return [entry.event for entry in reader.read(10_000) if isinstance(entry.event, Step)]
    finally:
        reader.close()


def test_a_run_goes_on_after_its_robot_was_stopped_and_after_it_was_lost_once_a_human_says_so(tmp_path):
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    folder, log, heard = tmp_path / "run", tmp_path / "said.txt", bytearray()

    def told(words: str) -> bool:
        with suppress(BlockingIOError):
            heard.extend(os.read(ours, 65536))
        return words in heard.decode(errors="replace")

    def truncated() -> int:
        return sum(step.fault is not None for step in steps_of(folder))

    with robot(0) as (server, port), open(log, "w") as said:
        arm = f"serl:http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "launch.cli", "finetune", "--out", str(folder), "--arm", arm]
        command += ["--intervene", "keyboard", "--terminal", os.ttyname(theirs), "--online.pace", "free", "--realtime"]
        command += ["--online.bridge", "scratch", "--online.bridge-settings", "steps", "20"]
        command += [
            "--online.env-steps",
            "1000",
            "--evaluation.trials",
            "1",
            "--evaluation.every-env-steps",
            "1000",
            "--online.batch-size",
            "16",
        ]
        command += TINY_FLAGS
        with started(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as run:
            try:
                assert eventually(lambda: len(steps_of(folder)) > 3 or run.poll() is not None, 120.0), log.read_text()
                os.write(ours, b" ")
                assert eventually(lambda: told("the operator stopped the arm"), 30.0), (heard, log.read_text())
                # The learner writes it down when it arrives; nobody has looked yet.
                assert eventually(lambda: truncated() == 1, 30.0), log.read_text()
                before = len(steps_of(folder))
                os.write(ours, b"\n")
                assert eventually(lambda: len(steps_of(folder)) > before + 3, 60.0), log.read_text()
                server.kill()
                server.wait()
                assert eventually(lambda: told("cannot be reached"), 60.0), (heard, log.read_text())
                heard.clear()
                os.write(ours, b"\n")  # too early
                assert eventually(lambda: told("cannot be reached"), 60.0)
                with robot(port):
                    before = len(steps_of(folder))
                    os.write(ours, b"\n")
                    assert eventually(lambda: len(steps_of(folder)) > before + 3, 60.0), log.read_text()
                    run.send_signal(signal.SIGINT)
                    run.wait(60.0)  # before this robot is gone too
            finally:
                run.kill()
    os.close(ours)
    os.close(theirs)
    assert run.returncode == 130, log.read_text()
    cut = [step for step in steps_of(folder) if step.fault is not None]
    assert len(cut) == 2
    assert all(step.transition.truncated and not step.transition.terminated for step in cut)
