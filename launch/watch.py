"""Why a socket is not connected, and connecting anew where libzmq does not."""

import time
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

from launch.address import Address

RETRY_S = 1.0


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
            "no answer": f"{at} does not answer; check its name and port, that it runs, and the firewall between",
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
