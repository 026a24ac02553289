"""The twin served as a Franka in a process of its own: the client libraries hold the interpreter while they wait."""

import multiprocessing
import random
import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection

from launch.robots.fci import FciTwin, serve_fci
from launch.robots.fci_robot import FciRobot
from launch.robots.fci_server import FciServer
from robot_env.tasks import Task

START_S = 30.0


def _serve(task: Task, twin: FciTwin, ready: Connection) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        serve_fci(task, twin, stop, ready.send)
    except OSError as error:
        ready.send(error)


def serve_robot(robot: FciRobot, twin: FciTwin, ready: Connection) -> None:
    """Serves a robot of a test's own, without a hand, in this process until it is terminated."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        server = FciServer(robot, twin.host, twin.port)
    except OSError as error:
        ready.send(error)
        return
    ready.send(server.address)
    server.serve(stop)


class ServedTwin:
    """A server on a loopback address that no other test has. Its process is ended by `close` or killed by `kill`."""

    serve = staticmethod(_serve)

    def __init__(self, task: Task, twin: FciTwin, host: str | None = None) -> None:
        wanted = host
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["launch.robots.fci", "sim.peg_insertion", "tests.robot_env.served_twin"])
        while True:
            host = wanted or f"127.{random.SystemRandom().randint(1, 254)}.{random.SystemRandom().randint(1, 254)}.7"
            ready, theirs = context.Pipe(duplex=False)
            self.process = context.Process(
                target=self.serve, args=(task, replace(twin, host=host), theirs), daemon=True
            )
            self.process.start()
            assert ready.poll(START_S), "the server has not started"
            address = ready.recv()
            if not isinstance(address, OSError):
                break
            assert wanted is None, address
        self.host = host

    def kill(self) -> None:
        self.process.kill()
        self.process.join(5.0)

    def close(self) -> None:
        self.process.terminate()
        self.process.join(5.0)
