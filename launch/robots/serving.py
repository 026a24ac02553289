"""Runs the server of a robot: its socket, its clock, its end."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from launch.robots.serl_app import make_app
from launch.robots.serl_robot import TICK_S, SerlRobot

START_S = 10.0
END_S = 5.0
SLIP_S = 0.2  # a robot whose machine was away for longer does not catch up: its time slips
IDLE_S = 3600.0  # a client that says nothing for so long is gone


class Clockwork:
    """Lets a paced robot's time pass on the wall clock, in a thread of its own."""

    def __init__(self, robot: SerlRobot) -> None:
        self._robot, self._ended = robot, threading.Event()
        self._thread = threading.Thread(target=self._work, name="robot", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        due_s = time.monotonic()
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            self._robot.advance()
            now_s = time.monotonic()
            due_s = due_s + TICK_S if now_s - due_s < SLIP_S else now_s


@contextmanager
def clockwork(robot: SerlRobot) -> Iterator[None]:
    """The robot's time passes meanwhile, where it is paced."""
    if not robot.paced:
        yield
        return
    clock = Clockwork(robot)
    clock.start()
    try:
        yield
    finally:
        clock.end()


def bind(host: str, port: int) -> socket.socket:
    """A socket to listen on; port 0 takes a free one. Raises `OSError` that says what to do where it is taken."""
    # Told that it is TCP, asyncio sends each answer at once; otherwise one takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another --host or --port"
        ) from error
    return listener


def make_server(robot: SerlRobot) -> uvicorn.Server:
    """The server of a robot, not yet running."""
    config = uvicorn.Config(
        make_app(robot),
        log_level="warning",
        access_log=False,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=int(END_S),
        backlog=16,
        limit_concurrency=16,
    )
    return uvicorn.Server(config)


def serve(robot: SerlRobot, listener: socket.socket) -> None:
    """Serves until the process is told to end."""
    with listener, clockwork(robot):
        make_server(robot).run(sockets=[listener])


@contextmanager
def served(robot: SerlRobot, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves from a thread of this process; gives the address."""
    with bind(host, port) as listener, clockwork(robot):
        server = make_server(robot)
        thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
        thread.start()
        until_s = time.monotonic() + START_S
        while not server.started:
            if time.monotonic() > until_s or not thread.is_alive():
                raise ConnectionError(f"the server on {host}:{port} did not start within {START_S:g} s")
            time.sleep(0.002)
        try:
            yield "http://{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(2 * END_S)
