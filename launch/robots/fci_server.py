"""Serves the Franka Control Interface: requests and answers over TCP, states and commands over UDP, one client at a time."""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from launch.robots.fci_robot import FciRobot
from launch.robots.fci_wire import (
    SUCCESS,
    BadMessage,
    Command,
    Request,
    RequestReader,
    parse_command,
)
from sim.torque_arm import STEP_S

PORT = 1337  # the clients know no other
LOCKSTEP_WAIT_S = 0.100  # for a client's command, before time goes on without it: a busy machine takes its turn
WAKE_S = 0.1  # how often a server without a client looks whether it is to end
INCOMPATIBLE = 1  # a client of another version
SEND_TIMEOUT_S = 2.0  # a client that reads no answers is dropped
# A client's machine that is gone without a word is noticed after these seconds: the first silence, then each probe.
KEEPALIVE_S, PROBE_S, PROBES = 2, 1, 3


class ClientGone(ConnectionError):
    """The client has left, or speaks another language; its text says which."""


@dataclass
class Clock:
    """When the next millisecond may begin, on the wall clock. A late or an early one starts the beat anew."""

    now: Callable[[], float] = time.monotonic
    due_s: float = 0.0

    def left_s(self) -> float:
        return max(0.0, self.due_s - self.now())

    def tick(self) -> None:
        now_s = self.now()
        self.due_s = min(max(self.due_s + STEP_S, now_s), now_s + STEP_S)


class FciServer:
    """Binds at once; `serve` runs until told to stop.

    A second client is refused while one is there. While no motion is under way, a millisecond takes a millisecond. In a motion
    the twin waits up to 100 ms for the answer to each state (lockstep), or, paced, until the next millisecond is due.

    Args:
        robot: what is served.
        host, port: where; port 0 takes any free one.
        paced: let simulated time follow the wall clock in motions too.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, robot: FciRobot, host: str = "127.0.0.1", port: int = PORT, paced: bool = False) -> None:
        self.robot, self._paced = robot, paced
        self._listener = socket.create_server((host, port), backlog=8)
        self._listener.setblocking(False)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((host, 0))
        self._udp.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.ticks = 0
        self._clock = Clock()

    def serve(self, stop: threading.Event) -> None:
        """One client after the other, until `stop` is set."""
        try:
            while not stop.is_set():
                if select.select([self._listener], [], [], WAKE_S)[0]:
                    self._welcome(stop)
        finally:
            self.close()

    def close(self) -> None:
        """Give the ports back."""
        self._listener.close()
        self._udp.close()

    def _welcome(self, stop: threading.Event) -> None:
        try:
            client, address = self._listener.accept()
        except OSError:  # gone before it was let in
            return
        with client:
            _prepare(client)
            session = Session(self.robot, client, address[0], self._udp, self._listener, self._paced, self._clock)
            try:
                # It leaves, or what it sends is no message: the arm is held, and the next may come.
                with contextlib.suppress(OSError, BadMessage):
                    session.run(stop)
            finally:
                self.ticks += session.ticks
                self.robot.leave()


class Session:
    """One client, from its first byte to its last."""

    def __init__(
        self,
        robot: FciRobot,
        client: socket.socket,
        host: str,
        udp: socket.socket,
        listener: socket.socket,
        paced: bool,
        clock: Clock,
    ) -> None:
        self.ticks = 0
        self._robot, self._client, self._host, self._udp, self._listener = robot, client, host, udp, listener
        self._paced, self._clock = paced, clock
        self._reader = RequestReader(robot.version)
        self._peer: tuple[str, int] | None = None

    def run(self, stop: threading.Event) -> None:
        """Until the client leaves or `stop` is set. Raises `OSError` or `BadMessage` where it leaves."""
        while self._peer is None and not stop.is_set():
            self._poll(WAKE_S, None)
        self._clock.due_s = self._clock.now()
        self._robot.begin()
        said = b""
        while self._peer is not None and not stop.is_set():
            said += self._robot.advance()
            self.ticks += 1
            moving = self._robot.moving
            self._udp.sendto(self._robot.state(), self._peer)
            self._send(said)  # after the state that shows why
            self._clock.tick()
            said = self._robot.command(self._await_command()) if moving else b""
            if not moving or self._paced:
                self._rest()

    def _await_command(self) -> Command | None:
        """The answer to the state sent last; None where none comes in time, or the motion ends meanwhile."""
        wanted, deadline = self._robot.arm.clock_ms, time.monotonic() + LOCKSTEP_WAIT_S
        while self._robot.moving:
            left_s = self._clock.left_s() if self._paced else deadline - time.monotonic()
            command = self._poll(max(left_s, 0.0), wanted)
            if command is not None:
                return command
            if left_s <= 0.0:
                return None
        return None

    def _rest(self) -> None:
        """Until the next millisecond is due; requests are answered meanwhile."""
        while (left_s := self._clock.left_s()) > 0.0:
            self._poll(left_s, None)
        self._poll(0.0, None)

    def _poll(self, timeout_s: float, wanted: int | None) -> Command | None:
        """Wait for anything at all and deal with it; the command that answers state `wanted`, if it came."""
        found = None
        # Not `poll`, which rounds up to whole milliseconds: a paced robot would lose its beat.
        for ready in select.select([self._client, self._udp, self._listener], [], [], timeout_s)[0]:
            if ready is self._client:
                self._hear()
            elif ready is self._udp:
                found = self._receive(wanted) or found
            else:
                self._refuse()
        return found

    def _hear(self) -> None:
        data = self._client.recv(4096)
        if not data:
            raise ClientGone("the client has closed its connection")
        for request in self._reader.feed(data):
            self._send(self._connect(request) if request.name == "connect" else self._answer(request))

    def _answer(self, request: Request) -> bytes:
        if self._peer is None:
            raise BadMessage(f"{request.name} came before connect")
        return self._robot.request(request)

    def _connect(self, request: Request) -> bytes:
        version, port = struct.unpack("<HH", request.payload)
        ours = struct.pack("<H", self._robot.version)
        if version != self._robot.version or port == 0:
            self._send(request.reply(INCOMPATIBLE, ours))
            raise ClientGone(f"the client speaks version {version}")
        self._peer = (self._host, port)
        return request.reply(SUCCESS, ours)

    def _receive(self, wanted: int | None) -> Command | None:
        """Everything that has come over UDP; the answer to state `wanted`, if it is there. The rest is stale."""
        found = None
        while True:
            try:
                data, sender = self._udp.recvfrom(4096)
            except BlockingIOError:
                return found
            except ConnectionError:  # a state met a port that is closed: TCP will say so
                continue
            if sender != self._peer:
                continue
            try:
                command = parse_command(data, self._robot.version)
            except BadMessage:
                continue
            if command.message_id == wanted:
                found = command

    def _refuse(self) -> None:
        """Another client is here; but this one may have left just before, and then the other is let in."""
        while select.select([self._client], [], [], 0.0)[0]:
            self._hear()
        with contextlib.suppress(OSError):  # gone by itself
            self._listener.accept()[0].close()

    def _send(self, data: bytes) -> None:
        if data:
            self._client.sendall(data)


def _prepare(client: socket.socket) -> None:
    client.settimeout(SEND_TIMEOUT_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, KEEPALIVE_S),
        (socket.TCP_KEEPINTVL, PROBE_S),
        (socket.TCP_KEEPCNT, PROBES),
    ):
        client.setsockopt(socket.IPPROTO_TCP, option, value)
