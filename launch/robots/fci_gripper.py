"""Serves the Franka hand's own interface, version 3, for a hand of which only the width is simulated.

The twin's peg is fixed to the hand: closing fingers stop at its width, and opening ones leave it there.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from launch.robots.fci_wire import BadMessage

GRIPPER_PORT = 1338  # the clients know no other
GRIPPER_VERSION = 3
MAX_WIDTH_M = 0.08
HOMING_M_S = 0.05
STATE_S = 0.02  # between two states
TEMPERATURE_C = 30
_HEADER = struct.Struct("<HII")  # command, id, size with the header
_PAYLOAD = {0: 4, 1: 0, 2: 40, 3: 16, 4: 0}  # bytes by command: connect, homing, grasp, move, stop
CONNECT, HOMING, GRASP, MOVE, STOP = range(5)
OK, FAILED, UNSUCCESSFUL, ABORTED = range(4)


@dataclass
class Hand:
    """Two fingers that go to a width at a speed, and stop at what is between them.

    Attributes:
        held_m: width of what they hold when closed; 0 is nothing.
        now: seconds.
    """

    held_m: float
    now: Callable[[], float] = time.monotonic
    _from_m: float = MAX_WIDTH_M
    _to_m: float = MAX_WIDTH_M
    _speed_m_s: float = HOMING_M_S
    _began_s: float = 0.0
    grasped: bool = False

    def __post_init__(self) -> None:
        self._from_m = self._to_m = self.held_m  # the twin begins with the peg between its fingers

    @property
    def width_m(self) -> float:
        way = self._to_m - self._from_m
        gone = self._speed_m_s * max(0.0, self.now() - self._began_s)
        return self._to_m if gone >= abs(way) else self._from_m + (gone if way > 0.0 else -gone)

    @property
    def arrived(self) -> bool:
        return self.width_m == self._to_m

    def go(self, width_m: float, speed_m_s: float) -> None:
        self._from_m, self._began_s = self.width_m, self.now()
        self._to_m, self._speed_m_s, self.grasped = max(width_m, self.held_m), speed_m_s, False

    def halt(self) -> None:
        self._from_m = self._to_m = self.width_m


@dataclass(frozen=True)
class _Pending:
    """A command whose fingers are still on their way, and what to answer when they are there."""

    command: int
    command_id: int
    status: int
    grasps: bool


class GripperServer:
    """Binds at once; `serve` runs until told to stop. One client at a time, another is refused.

    Raises `OSError` where the address cannot be bound.
    """

    def __init__(self, hand: Hand, host: str, port: int = GRIPPER_PORT) -> None:
        self.hand = hand
        self._listener = socket.create_server((host, port), backlog=4)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self.address: tuple[str, int] = self._listener.getsockname()

    def serve(self, stop: threading.Event) -> None:
        with self._listener, self._udp:
            while not stop.is_set():
                if not select.select([self._listener], [], [], 0.1)[0]:
                    continue
                client, (host, _) = self._listener.accept()
                client.settimeout(2.0)
                with (
                    client,
                    contextlib.suppress(OSError, BadMessage),
                ):  # it left, or speaks another language: the next may come
                    self._attend(client, host, stop)
                self.hand.halt()

    def _attend(self, client: socket.socket, host: str, stop: threading.Event) -> None:
        """One client, until it leaves. Raises `OSError` or `BadMessage` then."""
        received, peer, pending, number = bytearray(), None, None, 0
        while not stop.is_set():
            ready = select.select([client, self._listener], [], [], STATE_S)[0]
            while select.select([client], [], [], 0.0)[0]:
                data = client.recv(4096)
                if not data:
                    return
                received += data
            if self._listener in ready:
                self._listener.accept()[0].close()
            while (request := _cut(received)) is not None:
                command, command_id, payload = request
                if command == CONNECT:
                    peer = (host, _connect(client, command_id, payload))
                elif peer is None:
                    raise BadMessage("a gripper's command came before connect")
                else:
                    pending = self._start(client, command, command_id, payload, pending)
            if pending is not None and self.hand.arrived:
                self.hand.grasped = pending.grasps
                _reply(client, pending.command, pending.command_id, pending.status)
                pending = None
            if peer is not None:
                number += 1
                state = (number, self.hand.width_m, MAX_WIDTH_M, self.hand.grasped, TEMPERATURE_C)
                self._udp.sendto(struct.pack("<Idd?H", *state), peer)

    def _start(
        self, client: socket.socket, command: int, command_id: int, payload: bytes, pending: _Pending | None
    ) -> _Pending | None:
        """Set the fingers going; a command that they were at is aborted."""
        hand = self.hand
        if command == STOP:
            hand.halt()
            _reply(client, command, command_id, OK)
        if pending is not None:
            _reply(client, pending.command, pending.command_id, ABORTED)
        if command == STOP:
            return None
        values = struct.unpack(f"<{len(payload) // 8}d", payload)
        width_m, speed_m_s = (values[0], values[3] if command == GRASP else values[1]) if values else (0.0, HOMING_M_S)
        if not (0.0 <= width_m <= MAX_WIDTH_M and 0.0 < speed_m_s < 1.0):
            _reply(client, command, command_id, FAILED)
            return None
        if command == HOMING:
            hand.go(MAX_WIDTH_M, HOMING_M_S)
            return _Pending(command, command_id, OK, False)
        if command == MOVE:
            hand.go(width_m, speed_m_s)
            return _Pending(command, command_id, OK if width_m >= hand.held_m else UNSUCCESSFUL, False)
        inner, outer = values[1], values[2]
        hand.go(0.0, speed_m_s)
        good = hand.held_m > 0.0 and width_m - inner <= hand.held_m <= width_m + outer
        return _Pending(command, command_id, OK if good else UNSUCCESSFUL, good)


def _connect(client: socket.socket, command_id: int, payload: bytes) -> int:
    """Greet a client; the port that it hears states at."""
    version, port = struct.unpack("<HH", payload)
    good = version == GRIPPER_VERSION and port > 0
    _reply(client, CONNECT, command_id, OK if good else FAILED, struct.pack("<H", GRIPPER_VERSION))
    if not good:
        raise BadMessage(f"the client speaks version {version} of the gripper's interface")
    return port


def _cut(received: bytearray) -> tuple[int, int, bytes] | None:
    """The next whole request of a stream, taken out of it. Raises `BadMessage`."""
    if len(received) < _HEADER.size:
        return None
    command, command_id, size = _HEADER.unpack_from(received)
    if command not in _PAYLOAD or size != _HEADER.size + _PAYLOAD[command]:
        raise BadMessage(f"gripper's command {command} of {size} bytes is unknown")
    if len(received) < size:
        return None
    payload = bytes(received[_HEADER.size : size])
    del received[:size]
    return command, command_id, payload


def _reply(client: socket.socket, command: int, command_id: int, status: int, rest: bytes = b"") -> None:
    payload = struct.pack("<H", status) + rest
    client.sendall(_HEADER.pack(command, command_id, _HEADER.size + len(payload)) + payload)
