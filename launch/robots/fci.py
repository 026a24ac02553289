"""The twin as a Franka: its control interface and its gripper, served until told to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from launch.robots.fci_robot import FciRobot
from launch.robots.fci_server import PORT, FciServer
from launch.robots.fci_wire import Version
from robot_env.tasks import Task
from sim.torque_arm import TorqueArm


@dataclass(frozen=True)
class FciTwin:
    """What is served.

    Attributes:
        version: of the interface: 5 is a Panda, 10 an FR3.
        host: the address to bind.
        port: of the arm; the clients know 1337 only.
        paced: simulated time follows the wall clock in motions; otherwise it waits for the client's commands (lockstep).
        seed: where the hole is drawn, once, in the task's hidden range.
    """

    version: Version = 5
    host: str = "127.0.0.1"
    port: int = PORT
    paced: bool = False
    seed: int = 0


def serve_fci(
    task: Task, twin: FciTwin, stop: threading.Event, ready: Callable[[tuple[str, int]], None] = lambda address: None
) -> int:
    """Serves until `stop` is set; `ready` hears the arm's address once clients may come. Returns the milliseconds simulated.

    Raises `OSError` in one sentence where the address is taken.
    """
    arm = TorqueArm(task, twin.seed)
    try:
        server = FciServer(FciRobot(arm, twin.version), twin.host, twin.port, twin.paced)
    except OSError as error:
        raise OSError(f"{twin.host}:{twin.port} cannot be bound ({error.strerror}); is another server running there?") from error
    ready(server.address)
    server.serve(stop)
    return server.ticks
