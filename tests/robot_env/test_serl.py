"""The client of SERL's robot server, over real sockets: a lab's server, a twin's, and ones that misbehave."""

import json
import socket
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.robots.serl_robot import SerlRobot
from launch.robots.serving import served
from robot_env.arm import GAINS, ArmCommand
from robot_env.env import RobotEnv
from robot_env.faults import ArmFault
from robot_env.make import make_arm
from robot_env.serl import SerlArm
from robot_env.serl_state import parameters, parse_state
from sim.scripted import ScriptedInsertion, ScriptQuality
from tests.robot_env.lab import BUSY_S, PEG, LabRobot, lab

STILL = np.zeros(6)


@contextmanager
def twin(**options):
    """A twin's server in lockstep, and its arm."""
    robot = SerlRobot(PEG)
    with served(robot) as url:
        arm = make_arm(PEG, f"serl:{url},simulated", timeout_s=BUSY_S, **options)
        yield robot, arm
        arm.close()


def test_a_labs_server_needs_nothing_that_serl_has_not():
    with lab() as (robot, arm, _):
        env = RobotEnv(PEG, arm)
        _, info = env.reset(seed=0)
        state = arm.read()
        np.testing.assert_allclose(env.safety.offset(state.tcp_pose.tolist()), info["start_offset"], atol=3e-3)
        assert np.abs(state.wrench[:3]).max() < 1.0
        expert = ScriptedInsertion(PEG, robot.twin.hole_pose, ScriptQuality(), np.random.default_rng(0))
        over = False
        while not over:
            *_, terminated, truncated, info = env.step(expert.act(arm.read()))
            over = terminated or truncated
        assert (terminated, info["succeed"]) == (True, True)
        assert robot.called == []


def test_a_labs_state_is_stamped_here_and_one_that_repeats_to_the_last_bit_is_stale():
    with lab() as (robot, arm, clock):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        env.step(STILL)
        assert arm.read().stamp_s == pytest.approx(clock.now_s, abs=0.2)
        robot.frozen = robot.state()
        results = [env.step(STILL) for _ in range(1)]
        assert results[-1][3]
        assert "stale" in results[-1][4]["fault"]
        env.acknowledge("Ada")
        with pytest.raises(ArmFault, match="its state is frozen; look at the server"):
            env.reset()
        robot.frozen = None
        env.acknowledge("Ada")
        env.reset()
        assert not env.step(STILL)[3]


def test_each_reference_is_a_period_after_the_last_one():
    with lab() as (_, arm, clock):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        begun_s = clock.now_s
        for _ in range(10):
            env.step(STILL)
        assert clock.now_s - begun_s == pytest.approx(0.96)  # nine periods, and 0.6 of one until it was read


def test_gains_are_serls_and_travel_only_when_the_mode_changes():
    with twin() as (robot, arm):
        sent = []
        update = robot.update
        robot.update = lambda changes: (sent.append(dict(changes)), update(changes))
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        for _ in range(3):
            env.step(STILL)
        assert sent == [parameters(GAINS["precise"]), parameters(GAINS["compliant"])]
        stiffness = -robot.twin.model.actuator_biasprm[:6, 1]
        np.testing.assert_allclose(stiffness, [2000] * 3 + [150] * 3)
        np.testing.assert_allclose(robot.twin.model.actuator_forcerange[:3, 1], [16.0, 6.0, 8.0])


def test_the_wrench_is_the_twins_own_in_its_frame_about_the_hand():
    with twin() as (robot, arm):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0, options={"offset": (0.03, 0.03, 0.06, 0, 0, 0)})
        before = robot.twin.read().wrench
        down = np.array([0.0, 0.0, 1.0, 0.2, 0.0, 0.0])
        for _ in range(8):  # onto the rim, beside the hole
            env.step(down)
        here = robot.twin.read().wrench - before
        assert np.abs(here[:3]).max() > 3.0
        np.testing.assert_allclose(arm.read().wrench, here, atol=0.05)


def test_a_stopped_arm_refuses_until_an_acknowledgement_and_a_reset():
    with twin() as (robot, arm):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        assert arm.stop("a test") is None
        assert not robot._impedance
        with pytest.raises(ConnectionError, match=r"command refused: the arm was stopped \(a test\)"):
            arm.send(ArmCommand(arm.read().tcp_pose))
        *_, truncated, info = env.step(STILL)
        assert truncated
        assert "a test" in info["fault"]
        env.acknowledge("Ada")
        env.reset()
        assert robot._impedance
        assert not env.step(STILL)[3]


def test_a_robot_that_stopped_itself_is_not_cleared_by_connecting_but_by_an_operator():
    with twin() as (robot, arm):
        robot._stop("no reference for a while")
        env = RobotEnv(PEG, arm)
        with pytest.raises(ArmFault, match="the robot has stopped itself: no reference for a while"):
            env.reset(seed=0)
        assert robot.fault is not None
        env.acknowledge("Ada")
        env.reset(seed=0)
        assert robot.fault is None
        assert not env.step(STILL)[3]


def test_commands_that_cease_hold_the_arm_and_then_stop_it():
    with lab() as (robot, arm, clock):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        clock.sleep(60.0)  # an arm that rests is left alone
        arm.watchdog.check()
        env.step(np.array([1.0, 0, 0, 0, 0, 0]))
        clock.sleep(0.6)
        arm.watchdog.check()
        assert arm.watchdog.held
        reference = robot.twin.data.mocap_pos[robot.twin._mocap["reference_position"]]
        np.testing.assert_allclose(reference, robot.twin.pose[:3], atol=1e-3)
        env.step(STILL)  # a late command is not too late
        clock.sleep(5.1)
        arm.watchdog.check()
        assert not robot._impedance
        *_, truncated, info = env.step(STILL)
        assert truncated
        assert "TimeoutError: no command came for 5" in info["fault"]
        env.acknowledge("Ada")
        env.reset()
        assert not env.step(STILL)[3]


def test_an_arm_that_does_not_follow_its_reset_is_a_fault():
    with lab() as (robot, arm, _):
        env = RobotEnv(PEG, arm)
        move, robot.move = robot.move, lambda pose: None  # SERL's server says 200 whatever the controller does
        with pytest.raises(ArmFault, match=r"mm from a pose of its reset after 2 s"):
            env.reset(seed=0)
        robot.move = move
        env.acknowledge("Ada")
        env.reset(seed=0)


def test_a_push_in_a_reset_is_a_fault():
    with lab() as (robot, arm, _):
        env = RobotEnv(PEG, arm)
        env.reset(seed=0)
        robot.twin.set_load(5.0, np.zeros(3))  # 49 N out of nowhere
        with pytest.raises(ArmFault, match=r"above the (precise )?limit"):
            env.reset()
        assert not robot._impedance


def test_a_lab_is_no_twin():
    with lab() as (_, arm, _):
        named = make_arm(PEG, f"serl:{arm._server.url},simulated", timeout_s=BUSY_S)
        with pytest.raises(ConnectionError, match="does not say that it is a twin"):
            named.connect()
        named.close()


def test_never_more_than_one_socket():
    with twin() as (_, arm):
        env = RobotEnv(PEG, arm)
        for seed in range(2):
            env.reset(seed=seed)
            for _ in range(3):
                env.step(STILL)
        port = int(arm._server.url.rpartition(":")[2])
        with open("/proc/self/net/tcp") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        there = [row for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"]
        assert len(there) == 1


# Servers that misbehave


@contextmanager
def answering(answer: bytes | None):
    """A socket that answers each request with these bytes; None: never, though it lets everybody in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def work():
            listener.settimeout(0.02)
            peers = []
            while not ended.is_set():
                try:
                    peers.append(listener.accept()[0])
                except TimeoutError:
                    continue
                if answer is not None:
                    peers[-1].recv(65536)
                    peers[-1].sendall(answer)
                    peers[-1].close()
            for peer in peers:
                peer.close()

        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        thread.join()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status.encode(), len(body)) + body


GOOD = LabRobot().state()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (http(b"<html>"), "is this SERL's robot server"),
        (http(b"[]"), "its state is list instead of an object"),
        (http(b'{"pose": []}'), r"its 'pose' has shape \(0,\) instead of \(7,\)"),
        (http(json.dumps({**GOOD, "q": None}).encode()), r"its 'q'"),
        (http(json.dumps({**GOOD, "dq": ["a"] * 7}).encode()), "its 'dq' is no array of numbers"),
        (http(json.dumps({k: v for k, v in GOOD.items() if k != "force"}).encode()), "lacks 'force'"),
        (http(json.dumps({**GOOD, "stamp_s": "now"}).encode()), "stamp_s is 'now' instead of seconds"),
        (http(b"gone", "500 Internal Server Error"), "answered 500: gone"),
        (http(b"", "302 Found"), "answered 302"),
        (b"nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
def test_an_answer_that_is_none_is_one_sentence(answer, reason):
    with answering(answer) as url:
        arm = SerlArm(PEG, url, timeout_s=BUSY_S)
        with pytest.raises(ConnectionError, match=reason) as refusal:
            arm.connect()
        assert "\n" not in str(refusal.value)
        assert arm.stop("whatever") is not None
        arm.close()


def test_a_server_that_never_answers_is_given_up():
    with answering(None) as url:
        arm = SerlArm(PEG, url, timeout_s=0.05)
        with pytest.raises(TimeoutError, match=r"gave no answer in 0\.05 s; look at the server and the network"):
            arm.connect()
        arm.close()


def test_nobody_there_is_one_sentence_and_stopping_says_so():
    arm = SerlArm(PEG, "http://127.0.0.1:9", timeout_s=BUSY_S)
    with pytest.raises(ConnectionError, match="cannot be reached; start the robot's server"):
        arm.connect()
    assert "cannot be reached" in str(arm.stop("a test"))
    with pytest.raises(ConnectionError, match="that may not have arrived"):
        arm.send(ArmCommand(np.zeros(7)))
    arm.close()
    arm.close()


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="is no URL; write it as http://HOST:5000"):
        SerlArm(PEG, "robot:5000")


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(name=st.sampled_from(sorted(GOOD)), value=values)
def test_whatever_a_field_holds_it_is_a_state_or_one_clause(name, value):
    with suppress(ValueError):
        state = parse_state({**GOOD, name: value})
        assert state.pose.shape == (7,)
        assert state.wrench.shape == (6,)


@given(answer=values)
def test_whatever_an_answer_is_it_is_no_state(answer):
    with pytest.raises(ValueError, match=r"its state (is|lacks)"):
        parse_state(answer)
