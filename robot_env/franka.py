"""`FrankaArm`: what a Panda and an FR3 share behind the protocol of an arm. The client libraries are in `panda.py` and `franky.py`."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Protocol, TypeVar, cast

import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.arm import GAINS, ArmCommand, ArmState, Camera, Gains, Mode
from robot_env.pose import angle_between, slerp
from robot_env.tasks import Task
from robot_env.watchdog import Watchdog

T = TypeVar("T")

STREAM_S = 0.002  # between two references on the wall clock: the 1 kHz law is the driver's, this clips its error anew
SEND_SHARE = 0.9  # of a control period; reading, the policy and the environment's pace need the rest
SILENT_S = 1.0  # without a newer state the robot is gone; its clients give up then as well
CONNECT_S = 10.0  # for a host that does not answer
STOP_WAIT_S = 2.0  # for a driver that another thread is using
RESET_M_S, RESET_RAD_S = 0.15, 0.75  # how fast a reset moves its reference: SERL's precise gains lag by half their clip
REST_M_S, REST_RAD_S, REST_M, REST_RAD = 0.004, 0.02, 0.0015, 0.006  # slower and nearer than this is at rest, at the goal
REST_S = 3.0  # until it must be
TARE_READINGS = 20
# Above these the robot itself stops with a reflex, whatever this computer does: per axis, joint torques in N·m.
JOINT_REFLEX_NM = (40.0, 40.0, 40.0, 40.0, 12.0, 12.0, 12.0)


@dataclass(frozen=True)
class Load:
    """What the gripper holds, on the flange: kg, centre of mass m, inertia kg·m² about it (row by row, nine numbers)."""

    mass_kg: float
    com_m: tuple[float, float, float]
    inertia: tuple[float, ...] = (0.0,) * 9


@dataclass(frozen=True)
class Reading:
    """What a driver's newest state says.

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
        """Begin impedance control at the present pose. Never recovers from an error."""

    def change_gains(self, gains: Gains, pose: np.ndarray) -> None:
        """Go on with other gains; the reference is the present pose `(4, 4)`."""

    def refer(self, position: np.ndarray, quaternion: np.ndarray) -> None:
        """The controller's next reference, m and xyzw. Raises `ConnectionError` where no controller runs any longer."""

    def read(self) -> Reading:
        """The newest state, whether a controller runs or not."""

    def halt(self) -> None:
        """End impedance control, and return when it has ended; nothing where none runs."""

    def close(self) -> None:
        """Let go of the robot."""


class FrankaArm:
    """A Franka under Cartesian impedance control at 1 kHz in its client library.

    All drivers' calls are made under one lock. A watchdog holds the arm when no reference has come for half a second, and stops it
    after five; a stopped arm moves again at the next reset, one with an error after an acknowledged fault only.

    Args:
        task: its `hz` is the rate of references, its precise wrench limits are where the robot raises a reflex by default.
        driver: the client library.
        load: what the gripper holds; by default what the robot's own settings say.
        reflex: N and N·m per axis above which the robot stops by itself.
        clock: of the watchdog, s.
    """

    def __init__(
        self,
        task: Task,
        driver: Driver,
        load: Load | None = None,
        reflex: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.task, self._driver, self._load = task, driver, load
        self._reflex = reflex or task.wrench_limit["precise"]
        self._lock = threading.RLock()
        self._watchdog = Watchdog(self._lock, self._hold, self.stop, clock=clock)
        self._tare, self._mode = np.zeros(6), "compliant"
        self._open = False
        self._refusal: str | None = "the arm has not been reset yet"

    def connect(self) -> None:
        with self._lock:
            if self._open and not self._is_alive():
                self._let_go()
            if not self._open:
                self._driver.open()
                self._open = True
            if self._driver.read().error:
                self._driver.halt()
                self._driver.recover()
            if self._refusal is not None:
                self._driver.halt()
                self._driver.configure(*self._reflex, JOINT_REFLEX_NM, self._load)
        self._watchdog.start()

    def read(self) -> ArmState:
        with self._lock:
            reading = self._read()
        return ArmState(
            tcp_pose=_vector(reading.pose),
            tcp_velocity=reading.velocity,
            wrench=reading.wrench - self._tare,
            joints=reading.joints,
            gripper=0.0,
            stamp_s=reading.stamp_s,
        )

    def send(self, command: ArmCommand) -> ArmCommand:
        """Stream one reference for nine tenths of a control period of the robot's clock.

        Raises:
            RuntimeError: the arm was stopped, and has not been reset since.
            ConnectionError: the robot is gone, or has stopped by itself.
        """
        with self._lock:
            self._require_running()
            if command.mode != self._mode:
                self._driver.change_gains(GAINS[command.mode], self._read().pose)
                self._mode = command.mode
            started_s = self._read().stamp_s
        goal = np.array(command.tcp_pose, float)
        self._stream(lambda elapsed_s: goal, SEND_SHARE / self.task.hz, started_s)
        return ArmCommand(goal, 0.0, command.mode)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Follow the path at walking pace; see `Arm.reset`.

        Raises:
            ConnectionError: the robot is gone, or has stopped by itself.
            TimeoutError: it did not come to rest at the end.
        """
        with self._lock:
            self._refusal = "the last reset failed"
            self._driver.halt()
            reading = self._read()
            self._driver.start(GAINS["precise"])
            self._mode, self._refusal = "precise", None
        route = _Route([_vector(reading.pose), *np.asarray(path, float)])
        self._stream(route.at, route.duration_s, reading.stamp_s)
        goal = route.at(route.duration_s)
        self._settle(goal)
        with self._lock:
            self._require_running()
            self._driver.change_gains(GAINS["compliant"], _matrix(goal))
            self._mode = "compliant"
        self._settle(goal)
        self._tare = np.mean([self._next_reading().wrench for _ in range(TARE_READINGS)], axis=0)

    def stop(self, reason: str) -> None:
        """End the motion: the robot holds itself. From any thread; a driver that is stuck is not waited for."""
        self._refusal = self._refusal or f"the arm was stopped ({reason})"
        taken = self._lock.acquire(timeout=STOP_WAIT_S)
        try:
            self._watchdog.rest()
            if self._open:
                self._driver.halt()
        except Exception:  # the connection is gone: the robot stops by itself when it hears nothing
            pass
        finally:
            if taken:
                self._lock.release()

    def close(self) -> None:
        self._watchdog.close()
        with self._lock:
            self.stop("it was closed")
            if self._open:
                self._let_go()

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {}

    def _stream(self, at: Callable[[float], np.ndarray], duration_s: float, started_s: float) -> None:
        """References `at(elapsed)` `(7,)` until a duration of the robot's clock has passed."""
        while True:
            with self._lock:
                self._require_running()
                reading = self._read()
                elapsed_s = reading.stamp_s - started_s
                self._refer(at(min(elapsed_s, duration_s)), reading)
            if elapsed_s >= duration_s:
                return
            self._wait_for_news(reading)

    def _settle(self, goal: np.ndarray) -> None:
        """Wait until the arm is at rest at the goal `(7,)`."""
        with self._lock:
            started_s = self._read().stamp_s
        while True:
            with self._lock:
                self._require_running()
                reading = self._read()
                self._refer(goal, reading)
            pose, speed = _vector(reading.pose), reading.velocity
            off_m, off_rad = np.linalg.norm(pose[:3] - goal[:3]), angle_between(pose[3:].tolist(), goal[3:].tolist())
            slow = np.linalg.norm(speed[:3]) < REST_M_S and np.linalg.norm(speed[3:]) < REST_RAD_S
            if slow and off_m < REST_M and off_rad < REST_RAD:
                return
            if reading.stamp_s - started_s > REST_S:
                raise TimeoutError(
                    f"the reset did not come to rest at its end within {REST_S:g} s: it is {off_m:.4f} m and {off_rad:.4f} rad"
                    " off; look what is in the way"
                )
            self._wait_for_news(reading)

    def _refer(self, goal: np.ndarray, reading: Reading) -> None:
        """One reference, clipped about where the arm is now. Called under the lock."""
        position, quaternion = clipped(goal, reading.pose, GAINS[self._mode])
        self._driver.refer(position, quaternion)
        self._watchdog.feed()

    def _hold(self) -> None:
        """Keep the arm where it is. Called under the lock."""
        if self._refusal is None:
            pose = _vector(self._read().pose)
            self._driver.refer(pose[:3], pose[3:])

    def _read(self) -> Reading:
        """The newest state. Raises `ConnectionError` where the robot has stopped by itself. Called under the lock."""
        reading = self._driver.read()
        if reading.error and self._refusal is None:
            raise ConnectionError(f"the robot has stopped by itself: {reading.error}")
        return reading

    def _next_reading(self) -> Reading:
        with self._lock:
            self._require_running()
            reading = self._read()
        self._wait_for_news(reading)
        with self._lock:
            return self._read()

    def _wait_for_news(self, old: Reading) -> None:
        """Returns when there is a newer state. Raises `ConnectionError` where none comes."""
        deadline_s = time.monotonic() + SILENT_S
        while True:
            time.sleep(STREAM_S)
            with self._lock:
                if self._read().stamp_s > old.stamp_s:
                    return
            if time.monotonic() > deadline_s:
                raise ConnectionError(f"the robot has sent no state for {SILENT_S:g} s; look at its network and its brakes")

    def _require_running(self) -> None:
        if self._refusal is not None:
            raise RuntimeError(f"command refused: {self._refusal}; call reset first")

    def _is_alive(self) -> bool:
        try:
            self._driver.read()
        except ConnectionError:
            return False
        return True

    def _let_go(self) -> None:
        self._open = False
        self._driver.close()


def clipped(goal: np.ndarray, pose: np.ndarray, gains: Gains) -> tuple[np.ndarray, np.ndarray]:
    """The reference nearest to `goal (7,)` whose error from `pose (4, 4)` is within the gains' clips: m and xyzw.

    The position's error is clipped along the base axes, the rotation vector's along the goal's, as in `sim.control_law`.
    """
    clip_m = np.array(gains.translational_clip_m)
    position = pose[:3, 3] + np.clip(goal[:3] - pose[:3, 3], -clip_m, clip_m)
    wanted, now = Rotation.from_quat(goal[3:]), Rotation.from_matrix(pose[:3, :3])
    turn = (wanted.inv() * now).as_rotvec()
    turn = np.clip(turn, -gains.rotational_clip_rad, gains.rotational_clip_rad)
    return position, (now * Rotation.from_rotvec(-turn)).as_quat()


class _Route:
    """Poses `(7,)` one after the other, at a speed."""

    def __init__(self, poses: list[np.ndarray]) -> None:
        self._poses = poses
        legs = [
            max(np.linalg.norm(b[:3] - a[:3]) / RESET_M_S, angle_between(a[3:].tolist(), b[3:].tolist()) / RESET_RAD_S)
            for a, b in pairwise(poses)
        ]
        self._ends = np.cumsum([0.0, *legs])
        self.duration_s = float(self._ends[-1])

    def at(self, elapsed_s: float) -> np.ndarray:
        leg = min(int(np.searchsorted(self._ends, elapsed_s, side="right")) - 1, len(self._poses) - 2)
        begin, end = self._ends[leg], self._ends[leg + 1]
        share = 1.0 if end <= begin else min((elapsed_s - begin) / (end - begin), 1.0)
        a, b = self._poses[leg], self._poses[leg + 1]
        return np.array([*(a[:3] + share * (b[:3] - a[:3])), *slerp(a[3:].tolist(), b[3:].tolist(), share)])


def _vector(pose: np.ndarray) -> np.ndarray:
    """`(7,)`, m and xyzw."""
    return np.concatenate([pose[:3, 3], Rotation.from_matrix(pose[:3, :3]).as_quat()])


def _matrix(pose: np.ndarray) -> np.ndarray:
    """`(4, 4)`."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
    return matrix


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
        raise ConnectionError(f"{what} does not answer within {timeout_s:g} s; look at its address and network") from None
    if error is not None:
        raise error
    return cast(T, value)
