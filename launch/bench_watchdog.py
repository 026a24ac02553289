"""How long after its deadline a watchdog really has held and stopped an arm: real processes, sockets and clocks."""

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import numpy as np

from launch.attendant import TWINS_RUNNER
from robot_env.env import RobotEnv
from robot_env.faults import Violation
from robot_env.make import make_arm
from robot_env.pace import quantiles_ms
from robot_env.serl import SerlArm
from robot_env.tasks import find_task
from robot_env.watchdog import HOLD_AFTER_S, LOOK_S, STOP_AFTER_S, Watchdog

TASK = "peg_insertion"
SERVED = {"serl": "--protocol=serl", "panda": "--protocol=fci --version=5", "franky": "--protocol=fci --version=10"}
START_S = 60.0
MOVE = np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0])


def watchdog(repeats: int = 5) -> dict[str, Any]:
    """Of each arm, served by a twin on the wall clock: `repeats` silences of a client, and of `serl` what its robot does then.

    Held and stopped are counted once the robot has been told, or has told; deadlines are not counted.
    """
    rows: list[dict[str, Any]] = []
    for name, how in SERVED.items():
        try:
            with served(how) as address, closing(make_arm(find_task(TASK), f"{name}:{address},simulated")) as arm:
                env = RobotEnv(find_task(TASK), arm)
                found = [silence(env) for _ in range(repeats)]
                rows += [_row(name, "client", deed, [each[deed] for each in found]) for deed in ("held", "stopped")]
                if isinstance(arm, SerlArm):
                    late = [robot_alone(env, arm) for _ in range(repeats)]
                    rows.append(_row(name, "robot", "stopped", late))
        except ValueError as error:  # its client library is not installed
            rows.append({"arm": name, "watchdog": f"not measured: {error}"})
    deadlines = {"held": HOLD_AFTER_S, "stopped": STOP_AFTER_S}
    return {"deadline_s": deadlines, "looks_every_s": LOOK_S, "late": rows}


def _row(arm: str, whose: str, deed: str, late_s: list[float]) -> dict[str, Any]:
    return {"arm": arm, "watchdog": f"{whose}: {deed}", **{f"late_{q}_ms": x for q, x in quantiles_ms(late_s).items()}}


@contextmanager
def served(how: str) -> Iterator[str]:
    """The address of a twin in a process of its own, on the wall clock."""
    host = f"127.{random.SystemRandom().randint(1, 254)}.{random.SystemRandom().randint(1, 254)}.8"
    command = [sys.executable, "-m", "launch.cli", "robot", "serve", "--pace", "--host", host, *how.split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            address = re.search(r"--arm \w+:(\S+),simulated", said)
            if address is None:
                raise RuntimeError(f"the twin was not served: {said.strip()}")
            yield address[1]
        finally:
            process.kill()


def silence(env: RobotEnv) -> dict[str, float]:
    """An arm under way that is sent nothing more: how late its client held and stopped it, s."""
    watch = cast(Any, env.arm).watchdog
    last_s = move(env, watch)

    def is_stopped() -> bool:
        with watch.lock:  # which it has until the robot was told
            return watch.reason is not None

    held = await_s(lambda: watch.held) - last_s - watch.hold_after_s
    stopped = await_s(is_stopped) - last_s - watch.stop_after_s
    assert env.step(np.zeros_like(MOVE))[3], "a stopped arm took a command"
    env.acknowledge(TWINS_RUNNER)
    return {"held": held, "stopped": stopped}


def robot_alone(env: RobotEnv, arm: SerlArm, stop_after_s: float = STOP_AFTER_S) -> float:
    """The same without the client's watchdog: how late the robot stopped itself, s; found to a hundredth, as it is asked."""
    last_s = move(env, arm.watchdog)

    def is_stopped() -> bool:
        try:
            arm.read()
        except Violation:
            return True
        return False

    arm.watchdog.close()
    try:
        stopped = await_s(is_stopped, 0.01)
    finally:
        arm.watchdog.open()
    assert env.step(np.zeros_like(MOVE))[3], "a stopped arm took a command"
    env.acknowledge(TWINS_RUNNER)
    return stopped - last_s - stop_after_s


def move(env: RobotEnv, watch: Watchdog) -> float:
    """A few steps of a new episode; when the last command went out."""
    env.reset(seed=0)
    for _ in range(3):
        env.step(MOVE)
    assert watch.fed_s is not None, "no command was due"
    return watch.fed_s


def await_s(happened: Callable[[], bool], look_s: float = 0.0005) -> float:
    """When it was seen. Raises `RuntimeError` where it does not happen."""
    begun_s = time.monotonic()
    while not happened():
        if time.monotonic() - begun_s > START_S:
            raise RuntimeError("the watchdog did nothing")
        time.sleep(look_s)
    return time.monotonic()
