"""The hand's interface: how its fingers move, on a clock that the test moves, and bytes that are nothing."""

import socket
import struct
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch.robots.fci_gripper import MAX_WIDTH_M, GripperServer, Hand

HEADER = struct.Struct("<HII")
TIMEOUT_S = 10.0
CONNECT, HOMING, GRASP, MOVE, STOP = range(5)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(
    held=st.sampled_from([0.0, 0.02]),
    moves=st.lists(st.tuples(st.floats(0.0, MAX_WIDTH_M), st.floats(0.01, 0.5), st.floats(0.0, 3.0)), max_size=6),
)
def test_fingers_go_no_faster_than_asked_and_stop_at_what_they_hold(held, moves):
    clock = Clock()
    hand = Hand(held, clock)
    for width_m, speed_m_s, after_s in moves:
        before = hand.width_m
        hand.go(width_m, speed_m_s)
        clock.now_s += after_s
        assert held <= hand.width_m <= MAX_WIDTH_M
        assert abs(hand.width_m - before) <= speed_m_s * after_s + 1e-12
        clock.now_s += 100.0
        assert hand.arrived
        assert hand.width_m == max(width_m, held)


@pytest.fixture(scope="module")
def server():
    server, stop = GripperServer(Hand(0.02), "127.0.0.1", 0), threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    yield server
    stop.set()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def ask(tcp: socket.socket, command: int, payload: bytes = b"") -> tuple[int, bytes]:
    """Status and what follows it."""
    tcp.sendall(HEADER.pack(command, 3, HEADER.size + len(payload)) + payload)
    head = tcp.recv(HEADER.size, socket.MSG_WAITALL)
    assert HEADER.unpack(head)[:2] == (command, 3)
    answer = tcp.recv(HEADER.unpack(head)[2] - HEADER.size, socket.MSG_WAITALL)
    return struct.unpack_from("<H", answer)[0], answer[2:]


def greet(server) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 0))
    udp.settimeout(TIMEOUT_S)
    tcp = socket.create_connection(server.address, TIMEOUT_S)
    assert ask(tcp, CONNECT, struct.pack("<HH", 3, udp.getsockname()[1])) == (0, struct.pack("<H", 3))
    return tcp, udp


def test_it_grasps_what_is_there_and_says_so(server):
    tcp, udp = greet(server)
    with tcp, udp:
        assert ask(tcp, MOVE, struct.pack("<2d", 0.03, 0.5))[0] == 0
        assert ask(tcp, GRASP, struct.pack("<5d", 0.02, 0.005, 0.005, 0.5, 20.0))[0] == 0
        grasped = False
        while not grasped:  # the states before the grasp are read first
            _, width, most, grasped, _ = struct.unpack("<Idd?H", udp.recv(64))
        assert (width, most) == (0.02, MAX_WIDTH_M)
        assert ask(tcp, GRASP, struct.pack("<5d", 0.05, 0.005, 0.005, 0.5, 20.0))[0] == 2  # nothing so wide is there
        assert ask(tcp, MOVE, struct.pack("<2d", 1.0, 0.5))[0] == 1


def test_a_stop_aborts_the_move_under_way(server):
    tcp, udp = greet(server)
    with tcp, udp:
        tcp.sendall(HEADER.pack(MOVE, 3, HEADER.size + 16) + struct.pack("<2d", 0.08, 0.001))
        assert ask(tcp, STOP)[0] == 0
        answer = tcp.recv(HEADER.size + 2, socket.MSG_WAITALL)
        assert (HEADER.unpack_from(answer)[0], answer[-2:]) == (MOVE, struct.pack("<H", 3))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=200))
def test_no_bytes_end_the_server(server, data):
    with socket.create_connection(server.address, TIMEOUT_S) as rude:
        rude.sendall(data)
    tcp, udp = greet(server)
    tcp.close()
    udp.close()
