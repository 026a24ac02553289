"""The bytes of the Franka Control Interface, versions 5 (Panda) and 10 (FR3): little-endian and packed.

Facts: libfranka's public headers, and what its clients were seen to send.
"""

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

Version = Literal[5, 10]
HEADER = struct.Struct("<III")  # command, command_id, size with the header
LARGEST_REQUEST = 1024  # bytes; the largest there is has 428
# What is no single number of a request: the length of its payload in bytes, by name and version.
REQUESTS: dict[Version, dict[int, tuple[str, int]]] = {
    5: {
        0: ("connect", 4), 1: ("move", 56), 2: ("stop_move", 0), 3: ("get_cartesian_limit", 4),
        4: ("set_collision_behavior", 416), 5: ("set_joint_impedance", 56), 6: ("set_cartesian_impedance", 48),
        7: ("set_guiding_mode", 7), 8: ("set_ee_to_k", 128), 9: ("set_ne_to_ee", 128), 10: ("set_load", 104),
        11: ("set_filters", 40), 12: ("recover", 0), 13: ("load_model_library", 2),
    },
    10: {
        0: ("connect", 4), 1: ("move", 113), 2: ("stop_move", 0), 3: ("set_collision_behavior", 416),
        4: ("set_joint_impedance", 56), 5: ("set_cartesian_impedance", 48), 6: ("set_guiding_mode", 7),
        7: ("set_ee_to_k", 128), 8: ("set_ne_to_ee", 128), 9: ("set_load", 104), 10: ("recover", 0),
        11: ("get_robot_model", 0),
    },
}  # fmt: skip
SUCCESS = 0
# How a motion begins or ends, as the answer to Move says it.
MOVE_STATUS: dict[Version, dict[str, int]] = {
    5: {"success": 0, "started": 1, "preempted": 2, "not_possible": 3, "invalid": 5, "reflex": 6},
    10: {"success": 0, "started": 1, "preempted": 2, "not_possible": 5, "invalid": 7, "reflex": 8},
}
REJECTED, INVALID = 1, 2  # of all other requests
IDLE, MOVE, GUIDING, REFLEX = 1, 2, 3, 4  # robot modes
JOINT_POSITION, JOINT_VELOCITY = 0, 1  # motion generators that the twin has
NO_GENERATOR, NO_CONTROLLER, EXTERNAL = 0, 3, 2
# The places of the errors that the twin raises among the 41.
ERRORS = {
    "joint_position_limits_violation": 0,
    "joint_velocity_violation": 3,
    "joint_reflex": 6,
    "cartesian_reflex": 7,
    "joint_motion_generator_velocity_limits_violation": 13,
    "controller_torque_discontinuity": 29,
    "communication_constraints_violation": 31,
    "tau_j_range_violation": 34,
}

_NUMBERS = (
    ("O_T_EE", 16), ("O_T_EE_d", 16), ("F_T_EE", 16), ("EE_T_K", 16), ("F_T_NE", 16), ("NE_T_EE", 16),
    ("m_ee", 1), ("I_ee", 9), ("F_x_Cee", 3), ("m_load", 1), ("I_load", 9), ("F_x_Cload", 3),
    ("elbow", 2), ("elbow_d", 2), ("tau_J", 7), ("tau_J_d", 7), ("dtau_J", 7), ("q", 7), ("q_d", 7), ("dq", 7),
    ("dq_d", 7), ("ddq_d", 7), ("joint_contact", 7), ("cartesian_contact", 6), ("joint_collision", 7),
    ("cartesian_collision", 6), ("tau_ext_hat_filtered", 7), ("O_F_ext_hat_K", 6), ("K_F_ext_hat_K", 6),
    ("O_dP_EE_d", 6), ("O_ddP_O", 3), ("elbow_c", 2), ("delbow_c", 2), ("ddelbow_c", 2), ("O_T_EE_c", 16),
    ("O_dP_EE_c", 6), ("O_ddP_EE_c", 6), ("theta", 7), ("dtheta", 7),
)  # fmt: skip


def state_layout(version: Version) -> np.dtype:
    """One robot state: 2,373 bytes in version 5, 1,377 in version 10."""
    number = "<f8" if version == 5 else "<f4"
    numbers = [(name, number, (size,)) for name, size in _NUMBERS]
    if version == 10:
        numbers += [("accelerometer_top", number, (18,)), ("accelerometer_bottom", number, (18,))]
    flags = [("generator", "u1"), ("controller", "u1"), ("errors", "?", (41,)), ("reflex_reason", "?", (41,))]
    return np.dtype([("message_id", "<u8"), *numbers, *flags, ("robot_mode", "u1"), ("success_rate", number)])


class BadMessage(ValueError):
    """Bytes that are no message of this interface; its text says what they are."""


@dataclass(frozen=True)
class Request:
    """What a client asks for over TCP: a command's number and name, the id to answer with, and its payload."""

    command: int
    name: str
    command_id: int
    payload: bytes

    def reply(self, status: int, rest: bytes = b"") -> bytes:
        """An answer, its payload a status and perhaps more."""
        payload = bytes([status]) + rest
        return HEADER.pack(self.command, self.command_id, HEADER.size + len(payload)) + payload

    def numbers(self, count: int) -> np.ndarray:
        """The payload's first `count` numbers. Raises `BadMessage` where one is not finite."""
        values = np.frombuffer(self.payload, "<f8", count)
        if not np.isfinite(values).all():
            raise BadMessage(f"{self.name} holds a number that is not finite")
        return values


class RequestReader:
    """Cuts a TCP stream into requests."""

    def __init__(self, version: Version) -> None:
        self._known, self._bytes = REQUESTS[version], bytearray()

    def feed(self, data: bytes) -> list[Request]:
        """The requests that are complete with these bytes. Raises `BadMessage`; the stream cannot be read on then."""
        self._bytes += data
        found = []
        while len(self._bytes) >= HEADER.size:
            command, command_id, size = HEADER.unpack_from(self._bytes)
            if command not in self._known or size > LARGEST_REQUEST:
                raise BadMessage(f"command {command} of {size} bytes is unknown")
            name, length = self._known[command]
            if size != HEADER.size + length:
                raise BadMessage(f"{name} has {size} bytes instead of {HEADER.size + length}")
            if len(self._bytes) < size:
                break
            found.append(Request(command, name, command_id, bytes(self._bytes[HEADER.size : size])))
            del self._bytes[:size]
        return found


@dataclass(frozen=True)
class Command:
    """What a client's controller answers a state with.

    Attributes:
        message_id: of the state that is answered.
        q, dq: `(7,)`, of a joint motion.
        torque: `(7,)` N·m without gravity, of a torque controller.
        motion_finished, torque_finished: the last command of a motion.
    """

    message_id: int
    q: tuple[float, ...]
    dq: tuple[float, ...]
    torque: tuple[float, ...]
    motion_finished: bool
    torque_finished: bool


_COMMAND = struct.Struct("<Q7d7d16d6d2d??7d")  # version 10 has one byte more: whether the torques are the last
COMMAND_BYTES: dict[Version, int] = {5: _COMMAND.size, 10: _COMMAND.size + 1}


def parse_command(data: bytes, version: Version) -> Command:
    """Raises `BadMessage` where the length is wrong; numbers are as they came."""
    if len(data) != COMMAND_BYTES[version]:
        raise BadMessage(f"a command of {len(data)} bytes instead of {COMMAND_BYTES[version]}")
    values = _COMMAND.unpack_from(data)
    last = version == 10 and data[-1] != 0
    return Command(values[0], values[1:8], values[8:15], values[41:48], values[40], last)


def parse_move(request: Request) -> tuple[int, int]:
    """Controller and motion generator."""
    controller, generator = struct.unpack_from("<II", request.payload)
    return controller, generator
