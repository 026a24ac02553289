"""The served control interface over real sockets, with a bare client in the server's process."""

import socket
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.robots.fci_robot import FciRobot
from launch.robots.fci_server import FciServer
from launch.robots.fci_wire import HEADER, IDLE, MOVE, REFLEX
from robot_env.tasks import find_task
from sim.torque_arm import TorqueArm
from tests.launch.fci_client import TIMEOUT_S, Client, status_of

PEG = find_task("peg_insertion")


@pytest.fixture(scope="module", params=[5, 10])
def server(request):
    server, stop = FciServer(FciRobot(TorqueArm(PEG), request.param), port=0), threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    yield server
    stop.set()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


@pytest.fixture
def client(server):
    client = Client(server.address, server.robot.version)
    client.ask("recover")
    yield client
    client.close()


def until(client, mode: int):
    """The first state in a mode."""
    while True:
        state, _ = client.state()
        if state["robot_mode"] == mode:
            return state


def test_states_stream_from_the_first_moment_and_time_passes(client):
    first, _ = client.state()
    assert client.answer[HEADER.size] == 0
    while (later := client.state()[0])["message_id"] < first["message_id"] + 20:
        assert later["robot_mode"] == IDLE


def test_in_a_motion_time_waits_for_the_command_to_each_state(client):
    assert client.begin() == "started"
    until(client, MOVE)
    seen = [int(client.answer_state()["message_id"]) for _ in range(50)]
    assert seen == list(range(seen[0], seen[0] + 50))
    client.answer_state(finished=True)
    assert status_of(client.version, client.hear()) == "success"
    until(client, IDLE)


def test_a_second_client_is_refused_at_once(server, client):
    with socket.create_connection(server.address, TIMEOUT_S) as second:
        second.settimeout(TIMEOUT_S)
        assert second.recv(1) == b""
    client.state()


def test_a_client_of_another_version_is_told_ours(server):
    stranger = Client(server.address, server.robot.version, speaks=4)
    assert stranger.answer[HEADER.size :] == bytes([1, server.robot.version, 0])
    assert stranger.hear() == b""
    stranger.close()


def test_a_client_that_vanishes_in_motion_leaves_the_arm_held_and_the_server_free(server):
    client = Client(server.address, server.robot.version)
    client.ask("recover")
    assert client.begin() == "started"
    for _ in range(30):
        client.answer_state(torque=(0, 0, 0, 0, 0, 0, 0.3))
    client.close()
    again = Client(server.address, server.robot.version)
    state = until(again, IDLE)
    assert abs(state["dq"][6]) < 1.0
    assert again.ask("stop_move")[HEADER.size] == 0
    again.close()


def test_a_client_that_falls_silent_in_motion_meets_a_reflex(client):
    assert client.begin() == "started"
    assert status_of(client.version, client.hear()) == "reflex"
    until(client, REFLEX)
    assert client.ask("recover")[HEADER.size] == 0
    until(client, IDLE)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=600), datagram=st.binary(max_size=400), greets=st.booleans())
def test_no_bytes_end_the_server(server, data, datagram, greets):
    if greets:
        rude = Client(server.address, server.robot.version)
        _, sender = rude.state()
        rude.udp.sendto(datagram, sender)
        rude.tcp.sendall(data)
        rude.close()
    else:
        with socket.create_connection(server.address, TIMEOUT_S) as rude:
            rude.sendall(data)
    polite = Client(server.address, server.robot.version)
    assert polite.answer[HEADER.size] == 0
    polite.state()
    polite.close()
