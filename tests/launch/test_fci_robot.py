"""What the served robot does with requests and commands, without sockets."""

import struct

import numpy as np
import pytest

from launch.robots.fci_robot import LOST_COMMANDS, FciRobot
from launch.robots.fci_wire import ERRORS, GUIDING, HEADER, IDLE, MOVE, REFLEX, REJECTED, parse_command, state_layout
from robot_env.tasks import find_task
from sim import panda
from sim.torque_arm import TorqueArm
from tests.launch.fci_client import command_bytes, move, request, status_of, torque_move

PEG = find_task("peg_insertion")
NAN = float("nan")


@pytest.fixture(params=[5, 10])
def robot(request):
    return FciRobot(TorqueArm(PEG), request.param)


def state(robot):
    return np.frombuffer(robot.state(), state_layout(robot.version))[0]


def give(robot, **fields) -> bytes:
    return robot.command(parse_command(command_bytes(robot.version, robot.arm.clock_ms, **fields), robot.version))


def ask(robot, name: str, payload: bytes = b"") -> int:
    return robot.request(request(robot.version, name, payload))[HEADER.size]


def collision_behavior(forces_n: float, torques_nm: float = 100.0) -> bytes:
    return struct.pack("<52d", *[torques_nm] * 28, *[forces_n] * 24)


def errors(robot) -> set[str]:
    raised = state(robot)["errors"]
    return {name for name, place in ERRORS.items() if raised[place]}


def test_a_torque_motion_from_its_beginning_to_its_end(robot):
    asked = torque_move(robot.version)
    assert state(robot)["robot_mode"] == IDLE
    assert status_of(robot.version, robot.request(asked)) == "started"
    moving = state(robot)
    assert (moving["robot_mode"], moving["controller"]) == (MOVE, 2)
    assert moving["generator"] == {5: 2, 10: 5}[robot.version]
    for _ in range(200):
        assert give(robot, torque=(0, 0, 0, 0, 0, 0, 0.5)) == b""
        assert robot.advance() == b""
    assert robot.arm.dq[6] > 0.1
    ended = give(robot, finished=True)
    assert HEADER.unpack_from(ended)[1] == asked.command_id
    assert status_of(robot.version, ended) == "success"
    assert (state(robot)["robot_mode"], state(robot)["generator"], state(robot)["controller"]) == (IDLE, 0, 3)
    for _ in range(300):
        robot.advance()
    assert np.abs(robot.arm.dq).max() < 1e-3


@pytest.mark.parametrize(
    ("torque", "error"),
    [
        ((NAN, 0, 0, 0, 0, 0, 0), "tau_j_range_violation"),
        ((float("inf"), 0, 0, 0, 0, 0, 0), "tau_j_range_violation"),
        ((0, 0, 0, 0, 0, 0, 13.0), "tau_j_range_violation"),
        ((0, 2.0, 0, 0, 0, 0, 0), "controller_torque_discontinuity"),
    ],
)
def test_a_torque_that_no_robot_takes_is_a_reflex(robot, torque, error):
    robot.request(torque_move(robot.version))
    assert status_of(robot.version, give(robot, torque=torque)) == "reflex"
    assert errors(robot) == {error}
    assert state(robot)["robot_mode"] == REFLEX
    robot.advance()
    assert np.isfinite(robot.arm.q).all()
    assert status_of(robot.version, robot.request(torque_move(robot.version))) == "not_possible"
    assert ask(robot, "recover") == 0
    assert errors(robot) == set()
    assert status_of(robot.version, robot.request(torque_move(robot.version))) == "started"


def test_commands_that_cease_end_in_a_reflex(robot):
    robot.request(torque_move(robot.version))
    for _ in range(LOST_COMMANDS - 1):
        assert robot.command(None) == b""
        robot.advance()
    assert status_of(robot.version, robot.command(None)) == "reflex"
    assert errors(robot) == {"communication_constraints_violation"}


def test_stop_move_preempts_and_a_reflex_stays_through_it(robot):
    robot.request(torque_move(robot.version))
    answer = robot.request(request(robot.version, "stop_move"))
    assert answer[HEADER.size] == 0
    assert status_of(robot.version, answer[HEADER.size + 1 :]) == "preempted"
    robot.request(torque_move(robot.version))
    give(robot, torque=(NAN,) * 7)
    assert ask(robot, "stop_move") == 0
    assert state(robot)["robot_mode"] == REFLEX


def test_a_joint_motion_is_followed_and_held_at_its_end(robot):
    robot.request(move(robot.version, 0, 0))
    start, goal = robot.arm.q.copy(), robot.arm.q + 0.05
    for i in range(1, 501):
        assert give(robot, q=tuple(start + i / 500 * (goal - start))) == b""
        assert robot.advance() == b""
    give(robot, q=tuple(goal), finished=True)
    for _ in range(300):
        robot.advance()
    np.testing.assert_allclose(robot.arm.q, goal, atol=1e-4)
    np.testing.assert_allclose(state(robot)["q"], goal, atol=1e-4)


def test_a_jump_in_a_joint_motion_is_a_reflex(robot):
    robot.request(move(robot.version, 0, 0))
    give(robot, q=tuple(robot.arm.q + 0.1))
    assert errors(robot) == {"joint_motion_generator_velocity_limits_violation"}


def test_a_cartesian_motion_is_refused(robot):
    assert status_of(robot.version, robot.request(move(robot.version, 0, 2))) == "invalid"


def drive(robot, torque, ticks: int, damping: float = 0.0) -> bytes:
    """Ramp to a torque `(7,)`, less some damping, and keep it up until something is said."""
    now = np.zeros(7)
    for _ in range(ticks):
        now = now + np.clip(torque - damping * robot.arm.dq - now, -1.0, 1.0)
        if said := give(robot, torque=tuple(now)) + robot.advance():
            return said
    return b""


def test_a_joint_that_is_too_fast_and_one_at_its_end_are_reflexes(robot):
    robot.request(torque_move(robot.version))
    assert status_of(robot.version, drive(robot, (0, 0, 0, 0, 0, 0, 8.0), 400)) == "reflex"
    assert errors(robot) == {"joint_velocity_violation"}
    ask(robot, "recover")
    robot.arm.data.qpos[6], robot.arm.data.qvel[:7] = panda.UPPER_RAD[6] - 0.02, 0.0
    robot.request(torque_move(robot.version))
    assert status_of(robot.version, drive(robot, (0, 0, 0, 0, 0, 0, 0.5), 2000)) == "reflex"
    assert errors(robot) == {"joint_position_limits_violation"}


def test_contact_above_the_threshold_is_a_reflex_and_is_told(robot):
    assert ask(robot, "set_collision_behavior", collision_behavior(8.0)) == 0
    robot.request(torque_move(robot.version))
    said = drive(robot, (0, 8.0, 0, 0, 0, 0, 0), 6000, damping=10.0)  # the arm tips forwards, onto the table
    assert status_of(robot.version, said) == "reflex"
    assert errors(robot) == {"cartesian_reflex"}
    told = state(robot)
    assert told["cartesian_collision"].any()
    force = told["O_F_ext_hat_K"][:3]
    assert np.abs(force).max() > 4.0
    assert force[2] < 0.0  # the robot pushes the world down
    ask(robot, "recover")
    assert not state(robot)["cartesian_collision"].any()


def test_settings_are_kept_and_refused_in_motion(robot):
    load = struct.pack("<13d", 0.5, 0.0, 0.0, 0.1, *np.eye(3).ravel() * 1e-3)
    assert ask(robot, "set_load", load) == 0
    assert state(robot)["m_load"] == 0.5
    frame = np.eye(4)
    frame[2, 3] = 0.05
    before = state(robot)["O_T_EE"][14]
    assert ask(robot, "set_ne_to_ee", struct.pack("<16d", *frame.ravel(order="F"))) == 0
    assert state(robot)["O_T_EE"][14] == pytest.approx(before - 0.05, abs=1e-5)  # the tool points down
    assert ask(robot, "set_ne_to_ee", struct.pack("<16d", *np.full(16, 2.0))) != 0
    robot.request(torque_move(robot.version))
    assert ask(robot, "set_load", load) != 0


def test_in_a_hand_it_is_led_and_rejects_what_would_move_or_set_it(robot):
    robot.guide(robot.arm.q + 0.01)
    assert status_of(robot.version, robot.request(torque_move(robot.version))) == "not_possible"
    assert ask(robot, "recover") == ask(robot, "set_collision_behavior", collision_behavior(20.0)) == REJECTED
    before = robot.arm.q.copy()
    for _ in range(300):
        assert robot.advance() == b""
    np.testing.assert_allclose(robot.arm.q - before, 0.01, atol=1e-3)
    robot.leave()
    assert state(robot)["robot_mode"] == GUIDING
