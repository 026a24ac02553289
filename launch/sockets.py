"""The sockets of learner and actors: made once, bound or connected, and closed together.

| | learner, binds | | actor, connects |
|---|---|---|---|
| data, port P | ROUTER | both ways | DEALER |
| parameters, port P + 1 | PUB | to the actors | SUB, the newest only |

Loopback may speak in the clear. Any other address needs keys (`launch.keys`): then both ends are authenticated and encrypted
by CURVE, and the learner asks at each new connection whether the peer is trusted.
"""

import errno
import os
import random
import resource
import threading
from dataclasses import replace

import zmq

from launch.address import EVERY_INTERFACE, Address, check_bind
from launch.keys import Doorkeeper, Keys
from launch.watch import Watch

# Where no port is asked for, one is drawn below those that Linux gives to outgoing connections: while a learner restarts, its
# actor's own connection, or any other, could otherwise take the port that it comes back to.
DRAWN_PORTS = range(20_000, 32_000)
PORT_PAIR_TRIES = 100

# Only whole messages count as life: a link must carry the longest record within the silence.
HEARTBEAT_MS, SILENCE_MS = 1000, 3000
RECONNECT_MS, RECONNECT_MAX_MS = 100, 1000
KEEPALIVE_S, UNANSWERED_MS = 3, 6000
CONNECT_MS = 3000  # a host that does not answer is tried again then, not after the kernel's two minutes

# A learner that is busy for a while must not let its queue fill: libzmq then reads no more, heartbeats neither, cuts the
# connection and loses what is on its way. So a peer's queue holds more than a sender has on its way (`launch.delivery`).
QUEUE_BYTES = 256 << 20
LEAST_QUEUE = 64  # records
SEND_QUEUE = 64  # messages; the others wait in the spool, on the disk
LEAST_LIMIT_BYTES = 1 << 16  # for what is no record: greetings, orders, and libzmq's own handshake of 300 bytes
CURVE_BYTES = 33  # by which CURVE makes a message longer; libzmq limits the longer one
MAX_PARAMS_BYTES = 1 << 28


class Sockets:
    """Two sockets in a ZeroMQ context of their own, so that closing them waits until ports and descriptors are free.

    Attributes:
        data, parameters, address: see `LearnerSockets` and `ActorSockets`.
        context: for sockets by which threads wake each other; it outlives these.
    """

    data: zmq.Socket
    parameters: zmq.Socket
    address: Address

    def __init__(self, keys: Keys | None) -> None:
        self.context = zmq.Context.instance()
        self._keys, self._own = keys, zmq.Context()
        self._made: list[zmq.Socket] = []

    def close(self) -> None:
        """Closes the sockets; what is not sent yet is dropped. Closing again does nothing."""
        for socket in self._made:
            socket.close(0)
        self._own.term()

    def _make(self, kind: int, address: Address, max_bytes: int) -> zmq.Socket:
        """A socket that cuts off who sends a message part of more than so many bytes, before memory is taken for it."""
        socket = self._own.socket(kind)
        self._made.append(socket)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.HANDSHAKE_IVL, SILENCE_MS)  # who connects and says nothing takes a descriptor
        socket.set(zmq.IPV6, ":" in address.host)
        socket.set(zmq.MAXMSGSIZE, max(max_bytes, LEAST_LIMIT_BYTES) + (0 if self._keys is None else CURVE_BYTES))
        if kind in (zmq.ROUTER, zmq.DEALER):
            socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            socket.set(zmq.HEARTBEAT_TIMEOUT, SILENCE_MS)
            return socket
        socket.set(zmq.CONFLATE, 1)  # before it is bound or connected: later it has no effect
        # Not libzmq's heartbeats: those see nothing until a message is whole, and would cut off parameters that take longer.
        socket.set(zmq.TCP_KEEPALIVE, 1)
        socket.set(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, 1)
        socket.set(zmq.TCP_KEEPALIVE_CNT, 3)
        socket.set(zmq.TCP_MAXRT, UNANSWERED_MS)
        return socket


class LearnerSockets(Sockets):
    """The learner's ends, bound. They are for one thread.

    Args:
        address: to bind; port 0 takes any two free ports in a row.
        keys: of this machine; None speaks in the clear, on loopback only.
        max_record_bytes: of a message part; who sends a longer one is cut off.

    Attributes:
        data: ROUTER. With keys, `frame.get("User-Id")` of a received frame is the peer's name. What is for a peer that is gone
            is dropped.
        parameters: PUB, for messages of one part; a peer that is slow gets the newest.
        address: as bound.

    Raises:
        ValueError: the address may not be bound, or cannot.
    """

    def __init__(self, address: Address, keys: Keys | None, max_record_bytes: int) -> None:
        check_bind(address, keys)
        raise_descriptor_limit()
        super().__init__(keys)
        self._doorkeeper: Doorkeeper | None = None
        try:
            self._doorkeeper = Doorkeeper(self._own, keys)
            self.data = self._serve(zmq.ROUTER, address, max_record_bytes)
            self.data.set(zmq.ROUTER_MANDATORY, 0)
            self.data.set(zmq.RCVHWM, max(LEAST_QUEUE, QUEUE_BYTES // max_record_bytes))
            self.parameters = self._serve(zmq.PUB, address, 0)
            self.address = _bind_pair(self.data, self.parameters, address)
        except BaseException:
            self.close()
            raise

    @property
    def newest_refusal(self) -> str | None:
        """Why somebody was not let in, one sentence; None while all were."""
        return self._doorkeeper and self._doorkeeper.newest_refusal

    def close(self) -> None:
        super().close()
        if self._doorkeeper is not None:
            self._doorkeeper.join()

    def _serve(self, kind: int, address: Address, max_bytes: int) -> zmq.Socket:
        socket = self._make(kind, address, max_bytes)
        socket.set(zmq.ZAP_DOMAIN, b"segue")  # without one, libzmq asks nobody and lets all in
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        if self._keys is not None:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)
        return socket


def raise_descriptor_limit() -> None:
    """Lets this process open as many files as it may: each connection takes one, those that are refused for a moment too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _bind_pair(data: zmq.Socket, parameters: zmq.Socket, address: Address) -> Address:
    """Binds both and returns where. Raises `ValueError`."""
    if address.port:
        _bind(data, address)
        _bind(parameters, address.parameters)
        return address
    draw = random.SystemRandom()  # processes that were forked draw differently
    for _ in range(PORT_PAIR_TRIES):
        drawn = replace(address, port=draw.choice(DRAWN_PORTS))
        try:
            _bind(data, drawn)
        except _InUseError:
            continue
        try:
            _bind(parameters, drawn.parameters)
        except _InUseError:
            data.unbind(data.get_string(zmq.LAST_ENDPOINT))
            continue
        return drawn
    raise ValueError(f"learner found no two free ports in a row on {address.host}; give a port")


class _InUseError(ValueError):
    """A port that somebody listens at."""


def _bind(socket: zmq.Socket, address: Address) -> None:
    try:
        socket.bind(address.endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise _InUseError(
                f"learner at {address}: the port is in use; stop what listens there, or bind another"
            ) from error
        raise ValueError(
            f"learner cannot listen at {address} ({os.strerror(error.errno or 0)}); give an address of this machine"
        ) from error


class ActorSockets(Sockets):
    """An actor's ends, connecting. The sockets and `keep_connected` are for one thread, `why_not_connected` for any.

    Args:
        address: of the learner.
        keys: of this machine; None speaks in the clear, to loopback only.
        peer: which trusted peer the learner is; needed where several are trusted.
        max_params_bytes: of a message part; a learner that sends a longer one is cut off.

    Attributes:
        data: DEALER. With NOBLOCK, `send` raises `zmq.Again` where its queue is full.
        parameters: SUB; it holds the newest message only.
        address: of the learner.

    Raises:
        ValueError: the address is none of a learner, or it is not clear which key the learner must have.
    """

    def __init__(
        self, address: Address, keys: Keys | None, peer: str | None = None, max_params_bytes: int = MAX_PARAMS_BYTES
    ) -> None:
        peer = _learner_peer(address, keys, peer)
        super().__init__(keys)
        self.address, self._lock = address, threading.Lock()
        self._watches: list[Watch] = []
        try:
            self.data = self._join(zmq.DEALER, address, peer, max_params_bytes)
            self.parameters = self._join(zmq.SUB, address.parameters, peer, max_params_bytes)
        except BaseException:
            self.close()
            raise

    def keep_connected(self) -> None:
        """Connects anew what libzmq has given up: it does where it was refused. What was queued is lost. To be called often."""
        with self._lock:
            for watch in self._watches:
                watch.retry()

    def why_not_connected(self) -> str | None:
        """One sentence; None while both sockets are connected."""
        with self._lock:
            return next((why for watch in self._watches if (why := watch.why())), None)

    def close(self) -> None:
        with self._lock:
            for watch in self._watches:
                watch.stop()
            super().close()

    def _join(self, kind: int, address: Address, peer: str | None, max_bytes: int) -> zmq.Socket:
        socket = self._make(kind, address, max_bytes)
        socket.set(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        socket.set(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        if kind == zmq.SUB:
            socket.set(zmq.SUBSCRIBE, b"")
        else:
            socket.set(zmq.SNDHWM, SEND_QUEUE)
        if self._keys is not None and peer is not None:
            socket.set(zmq.CURVE_PUBLICKEY, self._keys.public)
            socket.set(zmq.CURVE_SECRETKEY, self._keys.secret)
            socket.set(zmq.CURVE_SERVERKEY, self._keys.trusted[peer])
        watch = Watch(socket, address, peer)
        self._made.append(watch.events)
        self._watches.append(watch)
        socket.connect(address.endpoint)
        return socket


def _learner_peer(address: Address, keys: Keys | None, peer: str | None) -> str | None:
    """The trusted peer that the learner is; None without keys. Raises `ValueError`."""
    if address.host in EVERY_INTERFACE or not address.port:
        raise ValueError(f"address {address} is none to connect to; give the host and the port that the learner shows")
    if keys is None:
        if address.is_loopback:
            return None
        raise ValueError(
            f"learner at {address} is on another machine, and there are no keys; run `segue keys make`, and"
            " `segue keys trust NAME KEY` here and there"
        )
    if peer is None and len(keys.trusted) == 1:
        return next(iter(keys.trusted))
    if peer is None or peer not in keys.trusted:
        names = ", ".join(keys.trusted) or "nobody"
        asked = f"{keys.folder} trusts {names}" if peer is None else f"{peer!r} is none of those trusted, {names}"
        raise ValueError(
            f"learner at {address}: {asked}; name the one that it is, or run `segue keys trust NAME KEY` with its key"
        )
    return peer
