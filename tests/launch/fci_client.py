"""A bare client of the control interface: the bytes that the real ones send, without a controller behind them."""

import socket
import struct
import weakref
from typing import Any

import numpy as np

from launch.robots.fci_wire import COMMAND_BYTES, HEADER, MOVE_STATUS, REQUESTS, Request, state_layout

TIMEOUT_S = 10.0
NUMBERS = {version: {name: n for n, (name, _) in commands.items()} for version, commands in REQUESTS.items()}


def request(version: int, name: str, payload: bytes = b"", command_id: int = 1) -> Request:
    return Request(NUMBERS[version][name], name, command_id, payload)


def move(version: int, controller: int, generator: int, command_id: int = 9) -> Request:
    size = REQUESTS[version][NUMBERS[version]["move"]][1]
    payload = struct.pack("<II", controller, generator).ljust(size, b"\0")
    return request(version, "move", payload, command_id)


def torque_move(version: int) -> Request:
    return move(version, 2, 1 if version == 5 else 4)


def status_of(version: int, answer: bytes) -> str:
    """The name of what a Move was answered with."""
    return {number: name for name, number in MOVE_STATUS[version].items()}[answer[HEADER.size]]


def command_bytes(version: int, message_id: int, torque=(0.0,) * 7, q=(0.0,) * 7, finished: bool = False) -> bytes:
    data = bytearray(COMMAND_BYTES[version])
    struct.pack_into("<Q7d", data, 0, message_id, *q)
    struct.pack_into("<?7d", data, 313, finished, *torque)
    return bytes(data)


class Client:
    """Connected, unless the server refuses. Leave it by `close`."""

    def __init__(self, address: tuple[str, int], version: int, speaks: int | None = None) -> None:
        self.version = version
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("", 0))
        self.udp.settimeout(TIMEOUT_S)
        self.tcp = socket.create_connection(address, TIMEOUT_S)
        weakref.finalize(self, Client._shut, self.tcp, self.udp)  # also where a test fails
        self.answer = self.ask("connect", struct.pack("<HH", speaks or version, self.udp.getsockname()[1]))

    def ask(self, name: str, payload: bytes = b"") -> bytes:
        asked = request(self.version, name, payload)
        self.tcp.sendall(HEADER.pack(asked.command, asked.command_id, HEADER.size + len(payload)) + payload)
        return self.hear()

    def begin(self) -> str:
        """Ask for control by torques; the answer."""
        asked = torque_move(self.version)
        head = HEADER.pack(asked.command, asked.command_id, HEADER.size + len(asked.payload))
        self.tcp.sendall(head + asked.payload)
        return status_of(self.version, self.hear())

    def hear(self) -> bytes:
        """The next answer; empty where the server has closed the connection."""
        head = self._take(HEADER.size)
        return head + self._take(HEADER.unpack(head)[2] - HEADER.size) if head else b""

    def state(self) -> tuple[Any, tuple[str, int]]:
        data, sender = self.udp.recvfrom(4096)
        return np.frombuffer(data, state_layout(self.version))[0], sender

    def answer_state(self, **fields) -> Any:
        """Take the next state and send a command for it; the state."""
        state, sender = self.state()
        self.udp.sendto(command_bytes(self.version, int(state["message_id"]), **fields), sender)
        return state

    def close(self) -> None:
        self._shut(self.tcp, self.udp)

    @staticmethod
    def _shut(*sockets: socket.socket) -> None:
        for each in sockets:
            each.close()

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self.tcp.recv(size - len(data))
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            data += more
        return data
