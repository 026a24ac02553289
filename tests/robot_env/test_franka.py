"""The Franka's arms over real sockets, through the unmodified client libraries: what happens when something goes wrong."""

import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from launch.robots.fci import FciTwin
from robot_env.arm import ArmCommand, about_mount
from robot_env.env import RobotEnv
from robot_env.make import make_arm
from robot_env.tasks import find_task
from sim.scripted import ScriptedInsertion, ScriptQuality
from sim.torque_arm import TorqueArm
from tests.robot_env.bent_twin import BENT_RAD, BentTwin
from tests.robot_env.served_twin import ServedTwin

PEG = find_task("peg_insertion")
VERSIONS = {"panda": 5, "franky": 10}
SEED = 1
PATIENCE_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module", params=VERSIONS)
def lab(request):
    """An arm's name, and a server for it."""
    with closing(ServedTwin(PEG, FciTwin(VERSIONS[request.param], seed=SEED))) as served:
        yield request.param, served


def make(lab, task=PEG, **options):
    name, served = lab
    return make_arm(task, f"{name}:{served.host},simulated", **options)


def until(happened) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_scripted_insertion_succeeds(lab):
    with closing(RobotEnv(PEG, make(lab))) as env:
        env.reset(seed=3)
        expert = ScriptedInsertion(PEG, TorqueArm(PEG, SEED).hole_pose, ScriptQuality(), np.random.default_rng(0))
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(expert.act(env.arm.read()))
            over = terminated or truncated
        assert info["succeed"], info


def test_a_wrench_is_what_the_world_does_to_the_tool_about_the_hands_mount():
    at_tcp = np.array([2.0, 0.0, 0.0, 0.0, 0.0, 0.5])
    np.testing.assert_allclose(about_mount(at_tcp), [2.0, 0.0, 0.0, 0.0, 0.206, 0.5])  # 10.3 cm further on


def test_a_push_from_aside_turns_about_the_mount_as_on_the_twin(lab):
    with closing(RobotEnv(PEG, make(lab))) as env:
        env.reset(seed=0)
        driver = env.arm._driver
        read = driver.read
        driver.read = lambda: replace(read(), wrench=np.array([0.0, 3.0, 0.0, 0.0, 0.0, 0.0]))
        env.step(np.zeros(6))
        seen = env.arm.read().wrench + env.arm._tare
        np.testing.assert_allclose(seen, [0.0, 3.0, 0.0, -0.309, 0.0, 0.0])


@pytest.mark.parametrize("name", VERSIONS)
def test_the_elbow_returns_to_the_ready_poses_from_wherever_it_is(name):
    with (
        closing(BentTwin(PEG, FciTwin(VERSIONS[name], seed=SEED))) as served,
        closing(RobotEnv(PEG, make((name, served)))) as env,
    ):
        env.reset(seed=0)
        for _ in range(PEG.max_steps):
            env.step(np.zeros(6))
        assert abs(env.arm.read().joints[2]) < 0.5 * abs(BENT_RAD[2])  # in the plane of the arm it is 0
        assert env.fault is None


def test_a_watchdog_holds_the_arm_and_then_stops_it(lab):
    clock = Clock()
    with closing(RobotEnv(PEG, make(lab, clock=clock))) as env:
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))
        goal = env.arm._goal.copy()
        clock.now_s += 0.6
        until(lambda: not np.array_equal(env.arm._goal, goal))
        assert env.arm._goal[2] > goal[2] + 1e-3  # where it was, short of where it was going
        until(lambda: np.abs(env.arm.read().tcp_pose[:3] - env.arm._goal[:3]).max() < 2e-3)
        until(lambda: np.abs(env.arm.read().tcp_velocity[:3]).max() < 0.005)
        clock.now_s += 5.0
        until(lambda: env.arm._goal is None)
        *_, terminated, truncated, info = env.step(np.zeros(6))
        assert truncated
        assert not terminated
        assert "no command came" in info["fault"]
        env.acknowledge("Ada")
        env.reset(seed=0)
        *_, truncated, info = env.step(np.zeros(6))
        assert not truncated, info


def test_an_arm_that_rests_is_not_stopped(lab):
    clock = Clock()
    with closing(RobotEnv(PEG, make(lab, clock=clock))) as env:
        env.reset(seed=0)
        clock.now_s += 60.0
        *_, truncated, info = env.step(np.zeros(6))
        assert not truncated, info
        env.arm.rest()
        clock.now_s += 60.0
        env.step(np.zeros(6))
        assert env.fault is None


def test_a_reference_that_is_no_number_is_refused_and_changes_nothing(lab):
    with closing(make(lab)) as arm:
        RobotEnv(PEG, arm).reset(seed=0)
        goal = arm._goal.copy()
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match="not finite"):
                arm.send(replace_pose(arm, bad))
        np.testing.assert_array_equal(arm._goal, goal)


def replace_pose(arm, value: float):
    pose = arm.read().tcp_pose.copy()
    pose[1] = value
    return ArmCommand(pose)


def test_the_hand_opens_and_closes_while_the_arm_goes_on(lab):
    task = replace(PEG, gripper=True, max_steps=1000)
    with closing(RobotEnv(task, make(lab, task))) as env:
        env.reset(seed=0)
        assert env.arm.read().gripper == pytest.approx(0.25)  # on the peg: 20 of 80 mm
        for wish, reached in ((1.0, lambda width: width == 1.0), (-1.0, lambda width: width == pytest.approx(0.25))):
            steps = 0
            while not reached(env.arm.read().gripper):
                *_, truncated, info = env.step(np.array([0.0] * 6 + [wish]))
                assert not truncated, info
                steps += 1
            assert steps > 2


@pytest.mark.parametrize("name", VERSIONS)
def test_nothing_is_taken_for_a_twin_that_is_not_on_this_machine(name):
    with pytest.raises(ValueError, match="no twin is served there"):
        make_arm(PEG, f"{name}:172.16.0.2,simulated")


@pytest.mark.parametrize("name", VERSIONS)
def test_an_arm_that_was_never_reached_is_told_in_one_sentence(name):
    with closing(make_arm(PEG, f"{name}:127.9.9.9,simulated")) as arm:
        with pytest.raises(ConnectionError, match=r"127\.9\.9\.9"):
            arm.connect()
        arm.stop("harmless")
