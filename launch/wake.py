"""Threads that own sockets: how others wake them, and how they take what has come."""

import secrets
from collections.abc import Iterator

import zmq


def drain(socket: zmq.Socket) -> Iterator[memoryview]:
    """The messages that are there; those of more than one part are none of this program's, and come as nothing."""
    while True:
        try:
            parts = socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return
        yield parts[0].buffer if len(parts) == 1 else memoryview(b"")


def wake_pair(context: zmq.Context) -> tuple[zmq.Socket, zmq.Socket]:
    """Two joined sockets: what one thread writes into the first wakes another that polls the second."""
    name = f"inproc://wake-{secrets.token_hex(8)}"
    inlet, outlet = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    for socket in (inlet, outlet):
        socket.set(zmq.LINGER, 0)
    inlet.set(zmq.SNDHWM, 1)
    outlet.set(zmq.RCVHWM, 1)
    outlet.bind(name)
    inlet.connect(name)
    return inlet, outlet
