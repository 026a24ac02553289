"""The twin as a Franka: its control interface and its gripper, served until told to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from launch.robots.fci_gripper import GRIPPER_PORT, GripperServer, Hand
from launch.robots.fci_robot import FciRobot
from launch.robots.fci_server import PORT, FciServer
from launch.robots.fci_wire import Version
from robot_env.tasks import Task
from sim.torque_arm import TorqueArm

GOODBYE_S = 2.0  # for the gripper's thread to end


@dataclass(frozen=True)
class FciTwin:
    """What is served.

    Attributes:
        version: of the interface: 5 is a Panda, 10 an FR3.
        host: the address to bind.
        port, gripper_port: of the arm and of its hand; the clients know 1337 and 1338 only.
        paced: simulated time follows the wall clock in motions; otherwise it waits for the client's commands (lockstep).
        seed: where the hole is drawn, once, in the task's hidden range.
    """

    version: Version = 5
    host: str = "127.0.0.1"
    port: int = PORT
    gripper_port: int = GRIPPER_PORT
    paced: bool = False
    seed: int = 0


def serve_fci(
    task: Task, twin: FciTwin, stop: threading.Event, ready: Callable[[tuple[str, int]], None] = lambda address: None
) -> int:
    """Serves until `stop` is set; `ready` hears the arm's address once clients may come. Returns the milliseconds simulated.

    Raises `OSError` in one sentence where the address is taken.
    """
    arm, hand = TorqueArm(task, twin.seed), Hand(getattr(task.scene, "peg_width_m", 0.0))
    try:
        server = FciServer(FciRobot(arm, twin.version), twin.host, twin.port, twin.paced)
    except OSError as error:
        raise _taken(twin.host, twin.port, error) from error
    try:
        gripper = GripperServer(hand, twin.host, twin.gripper_port)
    except OSError as error:
        server.close()
        raise _taken(twin.host, twin.gripper_port, error) from error
    fingers = threading.Thread(target=gripper.serve, args=(stop,), name="gripper", daemon=True)
    fingers.start()
    try:
        ready(server.address)
        server.serve(stop)
    finally:
        stop.set()
        fingers.join(GOODBYE_S)
    return server.ticks


def _taken(host: str, port: int, error: OSError) -> OSError:
    return OSError(f"{host}:{port} cannot be bound ({error.strerror}); is another server running there?")
