"""The sockets of learner and actors: made once, bound or connected, and closed together.

| | learner, binds | | actor, connects |
|---|---|---|---|
| data, port P | ROUTER | both ways | DEALER |
| parameters, port P + 1 | PUB | to the actors | SUB, the newest only |

Loopback may speak in the clear. Any other address needs keys (`launch.keys`): then both ends are authenticated and encrypted
by CURVE, and the learner asks at each new connection whether the peer is trusted.
"""

import errno
import ipaddress
import os
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import zmq
from zmq.utils.monitor import recv_monitor_message

from launch.keys import Doorkeeper, Keys

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
EVERY_INTERFACE = ("*", "0.0.0.0", "::")
LAST_PORT = 65534  # the parameters' port is one more
PORT_PAIR_TRIES = 100

HEARTBEAT_MS, SILENCE_MS = (
    1000,
    3000,
)  # only whole messages count as life: a link must carry the longest record in that time
RECONNECT_MS, RECONNECT_MAX_MS = 100, 1000
KEEPALIVE_S, UNANSWERED_MS = 3, 6000
CONNECT_MS = 3000  # a host that does not answer is tried again then, not after the kernel's two minutes
RETRY_S = 1.0

# A learner that is busy for a while must not let its queue fill: libzmq then reads no more, heartbeats neither, cuts the
# connection and loses what is on its way. So a peer's queue holds more than a sender has on its way (`launch.delivery`).
QUEUE_BYTES = 256 << 20
LEAST_QUEUE = 64  # records
SEND_QUEUE = 64  # messages; the others wait in the spool, on the disk
LEAST_LIMIT_BYTES = 1 << 16  # for what is no record: greetings, orders, and libzmq's own handshake of 300 bytes
CURVE_BYTES = 33  # by which CURVE makes a message longer; libzmq limits the longer one
MAX_PARAMS_BYTES = 1 << 28


@dataclass(frozen=True)
class Address:
    """Where a learner's data socket is; port 0 stands for any."""

    host: str
    port: int

    @property
    def parameters(self) -> "Address":
        """Where its parameters are published."""
        return replace(self, port=self.port + 1)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it. Of names only localhost is taken for that, wherever others lead."""
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host.lower() == "localhost"

    @property
    def endpoint(self) -> str:
        """As ZeroMQ writes it."""
        return f"tcp://{replace(self, host='127.0.0.1') if self.host.lower() == 'localhost' else self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int = 5555) -> Address:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT`, an IPv6 address, or `*:PORT`, also after `tcp://`. Raises `ValueError`."""
    bare = text.strip().removeprefix("tcp://")
    match = re.fullmatch(r"(?:\[(?P<v6>.*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]+))?", bare)
    host, port = (bare, None) if match is None else (match["v6"] or match["name"] or "", match["port"])
    proper = host in EVERY_INTERFACE[:2] or HOST.fullmatch(host)
    if match is None or match["v6"]:
        proper = False
        with suppress(ValueError):
            proper = ipaddress.ip_address(host).version == 6
    if not proper:
        raise ValueError(f"address {text!r} names no host; give HOST:PORT, such as 127.0.0.1:5555 or [fd00::7]:5555")
    if port is not None and (len(port) > 5 or int(port) > LAST_PORT):
        raise ValueError(f"address {text!r}: port {port} is above {LAST_PORT}; give a lower one")
    return Address(host, default_port if port is None else int(port))


def check_bind(address: Address, keys: Keys | None) -> None:
    """Raises `ValueError` where others reach the address and there are no keys, or nobody is trusted."""
    if address.is_loopback:
        return
    if keys is None:
        raise ValueError(
            f"learner at {address} would be open to the network, and there are no keys; run `segue keys make` and, for"
            " each actor's machine, `segue keys trust NAME KEY`, or bind 127.0.0.1"
        )
    if not keys.trusted:
        raise ValueError(
            f"learner at {address}: {keys.folder} trusts nobody, so no actor could join; run `segue keys trust NAME KEY`"
            " with what `segue keys show` says on the actor's machine"
        )


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


def _bind_pair(data: zmq.Socket, parameters: zmq.Socket, address: Address) -> Address:
    """Binds both and returns where. Raises `ValueError`."""
    for _ in range(PORT_PAIR_TRIES):
        found = _bind(data, address)
        if found.port <= LAST_PORT:
            try:
                _bind(parameters, found.parameters)
                return found
            except ValueError:
                if address.port:
                    raise
        data.unbind(data.get_string(zmq.LAST_ENDPOINT))
    raise ValueError(f"learner found no two free ports in a row on {address.host}; give a port")


def _bind(socket: zmq.Socket, address: Address) -> Address:
    try:
        socket.bind(address.endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f"learner at {address}: the port is in use; stop what listens there, or bind another"
            ) from error
        raise ValueError(
            f"learner cannot listen at {address} ({os.strerror(error.errno or 0)}); give an address of this machine"
        ) from error
    return replace(address, port=int(socket.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2]))


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


class Watch:
    """How a connection of an actor fares, from what libzmq says of it.

    Args:
        socket: not connected yet.
        address: that it is to be connected to.
        peer: which key the learner must have; None without keys.

    Attributes:
        events: the socket that brings the news.
    """

    def __init__(self, socket: zmq.Socket, address: Address, peer: str | None) -> None:
        self._socket, self._address, self._peer = socket, address, peer
        self._state, self._given_up_s = "no answer", 0.0
        inbox = f"inproc://watch-{address.port}"
        socket.monitor(inbox, zmq.EVENT_ALL)
        self.events = socket.context.socket(zmq.PAIR)
        self.events.set(zmq.RCVHWM, 0)  # libzmq's thread stands still, and every socket with it, where this is full
        self.events.connect(inbox)

    def why(self) -> str | None:
        """Why it is not connected, one sentence; None while it is."""
        self._read()
        at, peer = f"learner at {self._address}", self._peer
        wants = "it wants keys, or is no learner; run `segue keys make` and `segue keys trust NAME KEY` here and there"
        return {
            "connected": None,
            "no answer": f"{at} has not answered yet; wait a little",
            "away": f"nothing listens at {self._address}; start the learner, or check the address and the way there",
            "lost": f"{at} has gone away; it is tried again until it is back",
            "refused": f"{at} refuses this machine's key; run `segue keys show` here and `segue keys trust NAME KEY` there",
            "mismatch": f"{at} refuses: {wants}"
            if peer is None
            else f"{at} speaks without keys; give it keys, or use none",
            "hung up": f"{at} refuses: {wants}"
            if peer is None
            else f"{at} has not the key trusted here as {peer!r}, or is no learner; compare with `segue keys show` there",
        }[self._state]

    def retry(self) -> None:
        """Connects anew where libzmq does not."""
        self._read()
        if self._given_up_s and time.monotonic() - self._given_up_s > RETRY_S:
            self._given_up_s = 0.0
            with suppress(zmq.ZMQError):  # it may have forgotten the endpoint
                self._socket.disconnect(self._address.endpoint)
            self._socket.connect(self._address.endpoint)

    def stop(self) -> None:
        """To be called before either socket is closed: libzmq's thread would wait for ever to tell its news."""
        self._read()
        if not self._socket.closed:
            self._socket.monitor(None, 0)

    def _read(self) -> None:
        while not self.events.closed:
            try:
                news = recv_monitor_message(self.events, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._take(news["event"], news["value"])

    def _take(self, event: int, value: int) -> None:
        match event:
            case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._state = "connected"
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._state = "refused"
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                self._state = "mismatch"
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                # Either end may be the first to see that only one has keys, and the other then just sees the end.
                self._state = "mismatch" if self._state == "mismatch" else "hung up"
            case zmq.EVENT_CLOSED:
                self._state = "away"
            case zmq.EVENT_DISCONNECTED:
                self._state = "lost" if self._state == "connected" else self._state
                self._given_up_s = time.monotonic()
            case zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CONNECT_DELAYED:
                self._given_up_s = 0.0
