"""The table of faults in docs/safety.md: each is made to happen on every arm that can have it, and each arm goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from launch.robots.fci import FciTwin
from launch.robots.serl_robot import SerlRobot
from robot_env import serl_http
from robot_env.arm import Frame
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.joints import LOWER_RAD
from robot_env.make import make_arm
from robot_env.serl import SerlArm
from tests.robot_env.cut_network import Network
from tests.robot_env.lab import BUSY_S, PEG, Clock, lab
from tests.robot_env.scripted_arm import GRADIENT, ScriptedArm
from tests.robot_env.served_twin import ServedTwin

ROOT = Path(__file__).resolve().parents[2]
TASK = replace(PEG, cameras=("wrist_1",))
ASIDE = np.array([1.0, 0.3, 0.0, 0.0, 0.0, 0.0])
STILL = np.zeros(6)
ABOVE = {"offset": (0.0, 0.0, 0.08, 0.0, 0.0, 0.0)}
BESIDE = {"offset": (0.03, 0.03, 0.06, 0.0, 0.0, 0.0)}  # above the box, where the hole is not
FRANKAS = {"panda": 5, "franky": 10}
ALL = ("scripted", "twin", "serl", *FRANKAS)
PATIENCE_S = 10.0


class Device:
    """A human's device that leaves the arm to the policy until its cable is pulled."""

    def __init__(self) -> None:
        self.lost = False

    def action(self, obs, pose):
        if self.lost:
            raise ConnectionError("the device in the human's hand is gone; plug it in again")


class Eye:
    """A camera of any arm: a gradient with the time in its first row; `frozen` gives the last frame again."""

    def __init__(self) -> None:
        self.frozen, self._count, self._last = False, 0, None

    def read(self) -> Frame:
        if not self.frozen:
            self._count += 1
            picture = GRADIENT.copy()
            picture[0, :8, 0] = np.frombuffer(np.int64(self._count).tobytes(), np.uint8)
            self._last = Frame(picture, float(self._count))
        return self._last


class Rig:
    """An arm with a camera and a human's device, whose readings can be changed on the way.

    Attributes:
        change: of every reading; None leaves them.
        pass_time: lets seconds pass for the arm.
        where: the arm's pose as it really is.
        start: of an episode.
        joined: whether `where` is answered only once the arm is connected again.
    """

    def __init__(
        self,
        arm,
        pass_time: Callable[[float], None],
        where: Callable[[], np.ndarray],
        start: dict = ABOVE,
        joined: bool = False,
    ) -> None:
        self.arm, self.eye, self.device, self.start, self.joined = arm, Eye(), Device(), start, joined
        self.served: ServedTwin | None = None
        self.change, self.pass_time, self.where = None, pass_time, where
        self.robot: SerlRobot | None = None
        self.network: Network | None = None
        self.clock: Clock | None = None
        self.connect, self.send, self.reset = arm.connect, arm.send, arm.reset
        self.rest, self.stop, self.close = arm.rest, arm.stop, arm.close
        self.env = RobotEnv(TASK, self, intervention=self.device)

    @property
    def cameras(self):
        return {"wrist_1": self.eye}

    def read(self):
        state = self.arm.read()
        return state if self.change is None else self.change(state)


@contextmanager
def scripted():
    arm = ScriptedArm(TASK)
    yield Rig(arm, lambda seconds: None, lambda: arm.pose)


@contextmanager
def twin():
    arm = make_arm(TASK, "twin")

    def pass_time(seconds):
        steps = round(seconds / arm.model.opt.timestep)
        arm._simulate(np.repeat(arm._inputs()[None], steps, axis=0))

    yield Rig(arm, pass_time, lambda: arm.read().tcp_pose)


@contextmanager
def serl():
    """Over HTTP, through a network that can be cut, to a robot on the clock of the test."""
    with lab(SerlRobot(PEG, paced=True)) as (robot, direct, clock):
        network = Network(int(direct._server.url.rpartition(":")[2]))
        arm = SerlArm(PEG, network.url, timeout_s=BUSY_S, clock=clock, sleep=clock.sleep)
        arm.watchdog.open = lambda: None
        rig = Rig(arm, clock.sleep, lambda: robot.twin.pose)
        rig.robot, rig.network, rig.clock = robot, network, clock
        yield rig
        arm.close()
        network.close()


@contextmanager
def franka(name):
    """Through the unmodified client library, to a robot in a process of its own, whose reflex is a light one."""
    clock = Clock()
    with closing(ServedTwin(PEG, FciTwin(FRANKAS[name], seed=1))) as served:
        arm = make_arm(PEG, f"{name}:{served.host},simulated", reflex=(6.0, 3.0), clock=clock)
        rig = Rig(arm, lambda seconds: time.sleep(0.1 * seconds), lambda: arm.read().tcp_pose, BESIDE, True)
        rig.served, rig.clock = served, clock
        yield rig
        arm.close()


ARMS = {"scripted": scripted, "twin": twin, "serl": serl}


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        cause: makes it happen; the next step meets it.
        heal: undoes it, as an operator does before they acknowledge.
        arms: who can have it.
        noticed: by whom and when, in the table's words.
        then: what the arm does.
        reason: how the latched reason begins, or a part of it.
        steps: at most, until it is met; a camera may miss a frame.
    """

    cause: Callable[[Rig], object]
    heal: Callable[[Rig], object]
    arms: tuple[str, ...]
    noticed: str
    then: str
    reason: str
    action: tuple[float, ...] = tuple(ASIDE)
    steps: int = 3


def raise_reflex(rig):
    if rig.served is not None:
        return  # it comes down on the box
    if rig.robot is not None:
        rig.robot._limit_n = 0.001  # the smallest contact is too much
    else:
        rig.change = lambda state: replace(state, wrench=np.array([0, 0, 55.0, 0, 0, 0]))


def end_reflex(rig):
    if rig.robot is not None:
        rig.robot._limit_n = 40.0
    rig.change = None


def bend(rig):
    joints = np.array(rig.arm.read().joints)
    joints[3] = LOWER_RAD[3] + 0.05
    rig.change = lambda state: replace(state, joints=joints)


def restore(rig):
    rig.change = None


def hang(rig):
    """The client's process hangs for longer than its deadline: nothing is sent."""
    if rig.served is None:
        rig.pass_time(5.1)
        rig.arm.watchdog.check()
        return
    goal = rig.arm._goal.copy()
    rig.clock.sleep(0.6)
    until(lambda: not np.array_equal(rig.arm._goal, goal))  # held where it is
    rig.clock.sleep(5.0)
    until(lambda: rig.arm._goal is None)


def until(happened) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


FAULTS = {
    "network cut": Fault(
        lambda rig: cut(rig, True),
        lambda rig: cut(rig, False),
        ("serl", *FRANKAS),
        "client, after its time-out of 1 s; robot, 0.5 s after the last reference, a Franka after 20 unanswered states",
        "held by the robot after 0.5 s, stopped after 5 s; a Franka's reflex brakes it",
        "gave no answer in | the robot",
    ),
    "client hangs": Fault(
        hang,
        restore,
        ("serl", *FRANKAS),
        "client's own watchdog, and that of a SERL server, 0.5 s after the last reference",
        "held after 0.5 s, stopped after 5 s",
        "no command came for 5.",
    ),
    "reflex raised": Fault(
        raise_reflex,
        end_reflex,
        ALL,
        "robot, at once; client, at the next reading",
        "gives way and holds; stopped by the client",
        "reflex: a contact force of | above the compliant limit of 40 N | reflex",
        (0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        80,
    ),
    "camera frozen": Fault(
        lambda rig: setattr(rig.eye, "frozen", True),
        lambda rig: setattr(rig.eye, "frozen", False),
        ALL,
        "client, at the second step without a newer frame",
        "stopped, or held for up to 2 s first where the task says `hold`",
        "camera 'wrist_1' is frozen",
    ),
    "joint limit": Fault(
        bend,
        restore,
        ALL,
        "client, at the reading within 0.1 rad of a limit",
        "stopped",
        "joint 4 at",
    ),
    "NaN reference": Fault(
        lambda rig: None,
        restore,
        ALL,
        "client, before it is sent; robot, which refuses it",
        "stopped",
        "is not finite",
        (np.nan,) * 6,
    ),
    "intervention device lost": Fault(
        lambda rig: setattr(rig.device, "lost", True),
        lambda rig: setattr(rig.device, "lost", False),
        ALL,
        "client, at the next step",
        "stopped",
        "ConnectionError: the device in the human's hand is gone",
    ),
}
# Those that end a process: name, noticed, then, reason, arms.
KILLED = [
    (
        "server killed in mid-step",
        "client, at once: the connection breaks",
        "left to the robot's controller; stopped once there is a server again and a human has acknowledged",
        "cannot be reached | the robot",
        ("serl", *FRANKAS),
    ),
    (
        "client killed",
        "robot, 0.5 s after the last reference; a Franka, as the connection breaks",
        "held by the robot after 0.5 s, stopped after 5 s; braked by a Franka",
        "the robot has stopped itself: no command came for 5.; a Franka has nothing to tell the next client",
        ("serl", *FRANKAS),
    ),
]


def cut(rig, is_cut: bool) -> None:
    if rig.served is not None:  # what a client sees of a cable that is out: nothing more comes
        os.kill(rig.served.process.pid, signal.SIGSTOP if is_cut else signal.SIGCONT)
        return
    rig.network.cut = is_cut
    rig.arm._server._timeout_s = 0.2 if is_cut else BUSY_S


CASES = [(name, arm) for name, fault in FAULTS.items() for arm in fault.arms if arm in ARMS]


@pytest.mark.parametrize(("name", "arm"), CASES)
def test_a_fault_ends_in_a_still_arm_a_reason_and_a_run_that_goes_on(name, arm, monkeypatch):
    monkeypatch.setitem(serl_http.SLOW_S, "stopimp", 0.2 if name == "network cut" else BUSY_S)
    with ARMS[arm]() as rig:
        rig.env.reset(seed=0, options=rig.start)
        happens(rig, FAULTS[name])


@pytest.mark.parametrize("arm", FRANKAS)
def test_each_fault_of_a_franka_ends_so_and_one_session_outlives_them_all(arm):
    with franka(arm) as rig:
        rig.env.reset(seed=0, options=rig.start)
        for name in [name for name, fault in FAULTS.items() if arm in fault.arms]:
            happens(rig, FAULTS[name])


def happens(rig: Rig, fault: Fault) -> None:
    """In an episode under way; leaves another one under way."""
    env = rig.env
    for _ in range(3):
        assert not env.step(ASIDE)[3]
    fault.cause(rig)
    for _ in range(fault.steps):
        obs, _, terminated, truncated, info = env.step(np.array(fault.action))
        assert not terminated
        if truncated:
            break
    assert truncated
    assert not info["succeed"]
    assert env.observation_space.contains(obs)
    assert any(words in info["fault"] for words in fault.reason.split(" | ")), info["fault"]
    assert env.fault.reason == info["fault"]
    for refused in (lambda: env.step(STILL), env.reset):
        with pytest.raises(ArmFault, match="call acknowledge"):
            refused()
    if not rig.joined:
        stands_still(rig)
    if rig.robot is not None:
        assert rig.robot.fault is not None or not rig.robot._impedance
    fault.heal(rig)
    env.acknowledge("Ada")
    if rig.joined:
        rig.arm.connect()
        stands_still(rig)
    env.reset(seed=1, options=rig.start)
    for _ in range(3):
        assert not env.step(STILL)[3]


def stands_still(rig: Rig) -> None:
    """Held or stopped."""
    rig.pass_time(6.0)
    before = rig.where()
    rig.pass_time(1.0)
    assert np.linalg.norm(rig.where()[:3] - before[:3]) < 2e-4


def test_a_killed_client_leaves_an_arm_that_its_robot_holds_and_stops_and_the_next_one_learns_why():
    with serl() as rig:
        rig.env.reset(seed=0)
        for _ in range(3):
            rig.env.step(ASIDE)
        rig.arm._server.close()  # and never a word more
        last = rig.robot.twin.time_s
        while rig.robot.fault is None:
            rig.pass_time(0.02)
        assert rig.robot.twin.time_s - last == pytest.approx(5.0, abs=0.15)
        next_client = RobotEnv(
            PEG, SerlArm(PEG, rig.network.url, timeout_s=BUSY_S, clock=rig.clock, sleep=rig.clock.sleep)
        )
        with pytest.raises(ArmFault, match=r"the robot has stopped itself: no command came for 5\."):
            next_client.reset(seed=0)
        next_client.acknowledge("Ada")
        next_client.reset(seed=0)
        assert not next_client.step(STILL)[3]
        next_client.close()


SERVER = """
import sys
from launch.robots.fci import FciTwin
from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import bind, serve
from robot_env.tasks import find_task
listener = bind("127.0.0.1", int(sys.argv[1]))
print(listener.getsockname()[1], flush=True)
serve(SerlRobot(find_task("peg_insertion")), listener)
"""


@contextmanager
def process(port: int = 0):
    """A server in a process of its own, and its port."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.PIPE, cwd=ROOT) as server:
        try:
            yield server, int(server.stdout.readline())
        finally:
            with suppress(ProcessLookupError):
                server.kill()


def connect(arm, attempts: int = 200) -> None:
    for _ in range(attempts):
        with suppress(ConnectionError):
            return arm.connect()
        time.sleep(0.05)
    raise AssertionError("the server's process does not answer")


def test_a_server_that_is_killed_in_mid_step_is_a_fault_and_its_successor_goes_on():
    with ExitStack() as stack:
        server, port = stack.enter_context(process())
        arm = SerlArm(PEG, f"http://127.0.0.1:{port}", timeout_s=BUSY_S)
        connect(arm)
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        assert not env.step(ASIDE)[3]
        os.kill(server.pid, signal.SIGSTOP)  # it takes the reference and does not come to answer it
        threading.Timer(0.2, server.kill).start()
        _, _, terminated, truncated, info = env.step(ASIDE)
        assert (terminated, truncated) == (False, True)
        assert "cannot be reached" in info["fault"]
        server.wait()
        stack.enter_context(process(port))
        connect(arm)
        env.acknowledge("Ada")
        env.reset(seed=1)
        assert not env.step(STILL)[3]
        env.close()


@pytest.mark.parametrize("name", FRANKAS)
def test_a_franka_that_is_killed_in_mid_step_is_a_fault_and_its_successor_goes_on(name):
    served = ServedTwin(PEG, FciTwin(FRANKAS[name]))
    env = RobotEnv(PEG, make_arm(PEG, f"{name}:{served.host},simulated"))
    try:
        env.reset(seed=0)
        env.step(STILL)
        served.kill()
        *_, terminated, truncated, info = env.step(STILL)
        assert (terminated, truncated) == (False, True)
        assert "the robot" in info["fault"], info
        env.acknowledge("Ada")
        with pytest.raises(ConnectionError):
            env.reset()
        served = ServedTwin(PEG, FciTwin(FRANKAS[name]), served.host)
        env.reset(seed=0)
        assert not env.step(STILL)[3]
    finally:
        env.close()
        served.close()


CLIENT = """
import sys
import numpy as np
from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.tasks import find_task
task = find_task("peg_insertion")
env = RobotEnv(task, make_arm(task, sys.argv[1]))
env.reset(seed=0)
print("moves", flush=True)
while True:
    env.step(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))
"""


@pytest.mark.parametrize("name", FRANKAS)
def test_a_client_killed_in_mid_motion_leaves_a_franka_that_brakes_and_lets_the_next_one_in(name):
    with closing(ServedTwin(PEG, FciTwin(FRANKAS[name]))) as served:
        arm = f"{name}:{served.host},simulated"
        with subprocess.Popen([sys.executable, "-c", CLIENT, arm], stdout=subprocess.PIPE, cwd=ROOT) as client:
            try:
                assert client.stdout.read(5) == b"moves"
            finally:
                client.kill()
        with closing(RobotEnv(PEG, make_arm(PEG, arm))) as env:
            connect(env.arm)
            rig = Rig(env.arm, lambda seconds: time.sleep(0.1 * seconds), lambda: env.arm.read().tcp_pose)
            stands_still(rig)
            env.reset(seed=0)
            assert not env.step(STILL)[3]


def table() -> str:
    """The table as it stands in docs/safety.md."""
    rows = [*KILLED, *((name, f.noticed, f.then, f.reason, f.arms) for name, f in FAULTS.items())]
    lines = [
        "| fault | noticed by | the arm is | the reason that is latched says | on |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {noticed} | {then} | {reason.replace(' | ', ', or: ')} | {', '.join(arms)} |"
            for name, noticed, then, reason, arms in rows
        ),
    ]
    return "\n".join(lines)


def test_the_documented_table_is_this_one():
    assert table() in (ROOT / "docs" / "safety.md").read_text(), f"put this into docs/safety.md:\n{table()}"
