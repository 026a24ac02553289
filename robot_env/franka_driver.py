"""What a Franka's client library is asked for, and what both of them share in being asked."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from robot_env.arm import Gains

T = TypeVar("T")
CONNECT_S = 10.0  # for a host that does not answer
ANSWER_S = 2.0  # for a request to a robot that was there a moment ago


@dataclass(frozen=True)
class Load:
    """What the gripper holds, on the flange: kg, centre of mass m, inertia kg·m² about it (row by row, nine numbers)."""

    mass_kg: float
    com_m: tuple[float, float, float]
    inertia: tuple[float, ...] = (0.0,) * 9


@dataclass(frozen=True)
class Reading:
    """What a library's newest state says.

    Attributes:
        pose: `(4, 4)` of the TCP, base frame.
        velocity: `(6,)` of the TCP, m/s and rad/s, base frame.
        wrench: `(6,)` N and N·m of the world on the tool, tool frame, not tared.
        joints: `(7,)` rad.
        stamp_s: the robot's own clock.
        error: why the robot has stopped, or an empty string.
    """

    pose: np.ndarray
    velocity: np.ndarray
    wrench: np.ndarray
    joints: np.ndarray
    stamp_s: float
    error: str


class Driver(Protocol):
    """A robot's client library, used by one thread at a time. Each call has a time-out; what fails is a `ConnectionError`."""

    def open(self) -> None:
        """Connect."""

    def recover(self) -> None:
        """Leave a reflex."""

    def configure(self, force_n: float, torque_nm: float, joints_nm: tuple[float, ...], load: Load | None) -> None:
        """At rest: where the robot raises a reflex, per axis of the TCP and per joint, and what it carries."""

    def start(self, gains: Gains) -> None:
        """Begin impedance control at the present pose. Raises where the robot has an error, and never recovers from it."""

    def change_gains(self, gains: Gains) -> None:
        """Go on with other gains."""

    def refer(self, goal: np.ndarray, reading: Reading) -> None:
        """The controller's reference, `(7,)`, its error cut as the gains say. Called again and again with the newest state."""

    def read(self) -> Reading:
        """The newest state, whether a controller runs or not. Raises where the controller has ended by itself."""
        ...

    def halt(self) -> None:
        """End impedance control, and return when it has ended; nothing where none runs."""

    def close(self) -> None:
        """Let go of the robot."""

    def connect_gripper(self) -> Any:
        """The library's gripper, with `move`, `grasp` and `stop`."""

    def read_gripper(self, gripper: Any) -> Any:
        """Its state, with `width` and `max_width`, m."""


def require_loopback(host: str) -> None:
    """A twin is served on this machine, and a robot never is. Raises `ValueError` for any other address."""
    if host != "localhost" and not (host.startswith("127.") or host == "::1"):
        raise ValueError(
            f"arm at {host}, simulated: no twin is served there, for only 127.x.x.x is this machine; leave ,simulated out"
        )


class Requests:
    """A library's requests over TCP, which have no time-out of their own, each within `ANSWER_S`.

    The library waits inside one that is not answered, and is not touched before that has ended, as it does once the network is
    back.

    Args:
        host: the robot's address.
        errors: the library's exceptions.
    """

    def __init__(self, host: str, *errors: type[Exception]) -> None:
        self._ended = threading.Event()  # the last request
        self._ended.set()
        self._what, self._errors = f"the robot at {host}", errors

    def ask(self, call: Callable[[], T]) -> T:
        """What `call` returns. Raises `ConnectionError` where it fails or takes longer."""
        self.require()
        ended = self._ended = threading.Event()

        def work() -> T:
            try:
                return self._call(call)
            finally:
                ended.set()

        return within(ANSWER_S, self._what, work)

    def attempt(self, call: Callable[[], T]) -> T:
        """The same in this thread, for what has a time-out of its own."""
        self.require()
        return self._call(call)

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._errors as error:
            raise ConnectionError(f"{self._what}: {' '.join(str(error).split())}") from error

    def require(self) -> None:
        """Raises `ConnectionError` where the library goes on waiting."""
        if not self._ended.wait(ANSWER_S):
            raise ConnectionError(f"{self._what} has not answered a request yet; look at its network")


def within(timeout_s: float, what: str, call: Callable[[], T]) -> T:
    """What `call` returns or raises. Raises `ConnectionError` where it takes longer; it is then left behind in its thread."""
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            done.put((call(), None))
        except Exception as error:  # raised again by whoever waits
            done.put((None, error))

    threading.Thread(target=work, name=what, daemon=True).start()
    try:
        value, error = done.get(timeout=timeout_s)
    except queue.Empty:
        raise ConnectionError(
            f"{what} does not answer within {timeout_s:g} s; look at its address and network"
        ) from None
    if error is not None:
        raise error
    return cast(T, value)
