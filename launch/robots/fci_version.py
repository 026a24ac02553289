"""Which version of its control interface a Franka speaks: asked as every client begins, and then left alone."""

import socket
import struct

from launch.robots.fci_server import PORT
from launch.robots.fci_wire import HEADER, SUCCESS, Version

CLIENTS: dict[str, Version] = {"panda": 5, "franky": 10}
"""What the client library of each arm speaks."""

TIMEOUT_S = 2.0
ANSWER = struct.Struct("<BH")  # status, the robot's version
CONNECT = 0


def spoken_version(host: str, version: Version, port: int = PORT) -> int:
    """The robot's version; nothing moves, and whoever has the robot keeps it.

    Args:
        host: the robot's address.
        version: the one to ask for.

    Raises:
        ConnectionError: nobody answers, or another client has the robot, or the answer is none.
    """
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as robot,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states,
        ):
            states.bind(("", 0))
            payload = struct.pack("<HH", version, states.getsockname()[1])
            robot.sendall(HEADER.pack(CONNECT, 1, HEADER.size + len(payload)) + payload)
            data = b""
            while len(data) < HEADER.size + ANSWER.size:
                more = robot.recv(64)
                if not more:
                    raise ConnectionError("it has closed the connection; another program may hold it")
                data += more
    except OSError as error:
        raise ConnectionError(f"robot at {host}:{port}: {error}") from error
    status, its = ANSWER.unpack_from(data, HEADER.size)
    if (status == SUCCESS) != (its == version) or not 1 <= its <= 99:
        raise ConnectionError(f"robot at {host}:{port}: its answer to a client is none ({data.hex()}); is it a Franka?")
    return its
