"""`FrankaArm`: what a Panda and an FR3 share. Their client libraries are in `panda.py` and `franky.py`."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from robot_env.arm import GAINS, ArmCommand, ArmState, Camera, Mode, about_mount
from robot_env.franka_driver import Driver, Load, Reading, require_loopback
from robot_env.franka_gripper import FrankaGripper
from robot_env.franka_route import Arrival, Route, vector_of
from robot_env.tasks import Task
from robot_env.watchdog import Watchdog

HOST = "172.16.0.2"  # of a robot that nobody has given another address
STREAM_S = 0.002  # between two looks at the robot, wall clock: the law at 1 kHz is the library's
SEND_SHARE = 0.9  # of a control period; reading, the policy and the environment's pace need the rest
SILENT_S = 1.0  # without a newer state the robot is gone; its clients give up then as well
STOP_WAIT_S = 2.0  # for a library that another thread is using
TARE_READINGS = 20
# Above these the robot itself stops with a reflex, whatever this computer does: per axis, joint torques in N·m.
JOINT_REFLEX_NM = (40.0, 40.0, 40.0, 40.0, 12.0, 12.0, 12.0)


class FrankaArm:
    """A Franka under Cartesian impedance control at 1 kHz in its client library.

    While the arm moves, one thread reads the newest state, hands the library its reference and asks the watchdog; whoever else
    uses the library takes the same lock. A stopped arm moves again at the next reset; one that has stopped by itself, or that
    the watchdog has stopped, after an acknowledged fault only.

    Args:
        task: its `hz` is the rate of references, its precise wrench limits are where the robot raises a reflex by default.
        host: the robot's address.
        simulated: that it is the served twin, on this machine.
        load: what the gripper holds; by default what the robot's own settings say.
        reflex: N and N·m per axis above which the robot stops by itself.
        clock: of the watchdog, s.

    Attributes:
        watchdog: the one of this computer.
        driver: makes the client library's side, of the address and whether a real-time kernel is wanted.
    """

    driver: Callable[[str, bool], Driver]

    def __init__(
        self,
        task: Task,
        host: str = HOST,
        simulated: bool = False,
        load: Load | None = None,
        reflex: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if simulated:
            require_loopback(host)
        driver = type(self).driver(host, not simulated)
        self.task, self._driver, self._load = task, driver, load
        self._reflex = reflex or task.wrench_limit["precise"]
        self.watchdog = Watchdog(self._hold, self._end, clock=clock)
        self._news = threading.Condition(self.watchdog.lock)
        self._gripper = FrankaGripper(driver.connect_gripper, driver.read_gripper) if task.gripper else None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._open = False
        self._mode: Mode = "precise"
        self._goal: np.ndarray | None = None  # (7,), while the arm moves
        self._newest: Reading | None = None
        self._heard_s = 0.0  # when the newest state came, on the wall clock
        self._tare = np.zeros(6)
        self._refusal: Exception | None = RuntimeError("the arm has not been reset yet; call reset first")

    def connect(self) -> None:
        with self._news:
            if self._goal is not None:
                return  # it moves: it is open and well
            while True:
                was_open = self._open
                try:
                    self._join()
                    break
                except ConnectionError:
                    self._let_go()  # the next attempt begins from nothing
                    if not was_open:
                        raise
            if self._thread is None:
                self._closed.clear()
                self._thread = threading.Thread(target=self._stream, name="references", daemon=True)
                self._thread.start()

    def _join(self) -> None:
        if self._open and not self._is_alive():
            self._let_go()
        if not self._open:
            self._driver.open()
            self._open = True
        self.watchdog.clear()
        self._refusal = RuntimeError("the arm has not been reset since it was connected; call reset first")
        if self._driver.read().error:
            self._driver.recover()
        self._driver.configure(*self._reflex, JOINT_REFLEX_NM, self._load)
        if self._gripper is not None:
            self._gripper.open()

    def read(self) -> ArmState:
        with self._news:
            reading = self._look()
        return ArmState(
            tcp_pose=vector_of(reading.pose),
            tcp_velocity=reading.velocity,
            wrench=about_mount(reading.wrench) - self._tare,
            joints=reading.joints,
            gripper=0.0 if self._gripper is None else self._gripper.opening,
            stamp_s=reading.stamp_s,
        )

    def send(self, command: ArmCommand) -> ArmCommand:
        """Stream one reference for nine tenths of a control period of the robot's clock.

        Raises:
            RuntimeError: the arm was stopped, and has not been reset since.
            ConnectionError: the robot is gone, or has stopped by itself.
            ValueError: the pose is not finite.
        """
        goal = np.array(command.tcp_pose, float)
        if not np.isfinite(goal).all():
            raise ValueError(f"pose {goal} is not finite; send seven finite numbers")
        with self._news:
            self._require_running()
            self._change_mode(command.mode)
            started_s = self._look().stamp_s
            self._head_for(goal)
        if self._gripper is not None:
            self._gripper.refer(command.gripper)
        self._await(lambda reading: reading.stamp_s - started_s >= SEND_SHARE / self.task.hz)
        return ArmCommand(goal, command.gripper, command.mode)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Follow the path at walking pace; see `Arm.reset`.

        Raises:
            ConnectionError: the robot is gone, or has stopped by itself.
            TimeoutError: it did not come to rest at the end.
        """
        with self._news:
            self.watchdog.require_alive()
            self._halt(RuntimeError("the last reset failed; call reset again"))
            reading = self._driver.read()
            self._driver.start(GAINS["precise"])
            self._mode, self._refusal = "precise", None
            self._newest, self._heard_s = reading, time.monotonic()
            self._head_for(vector_of(reading.pose))
        route = Route([vector_of(reading.pose), *np.asarray(path, float)])
        self._await(lambda now: self._follow(route, now.stamp_s - reading.stamp_s))
        goal = route.at(route.duration_s)
        self._settle(goal)
        with self._news:
            self._require_running()
            self._change_mode("compliant")
        self._settle(goal)
        self._tare = self._mean_wrench()
        self.watchdog.rest()  # it stands at its start; the first reference may take as long as it likes

    def rest(self) -> None:
        self.watchdog.rest()

    def stop(self, reason: str) -> str | None:
        """End the motion: the robot holds itself. From any thread; a library that is stuck is waited for two seconds only."""
        self._refusal = self._refusal or RuntimeError(f"the arm was stopped ({reason}); call reset first")
        taken = self._news.acquire(timeout=STOP_WAIT_S)
        try:
            self._halt(self._refusal)
        except Exception as error:  # the robot stops by itself when it hears nothing
            return f"the robot does not answer ({error})"
        finally:
            if taken:
                self._news.release()
        return None

    def close(self) -> None:
        self.stop("it was closed")
        self._closed.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None
        if self._gripper is not None:
            self._gripper.close()
        with self._news:
            self._let_go()

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {}

    def _stream(self) -> None:
        """The thread: the newest state, the reference, the watchdog."""
        while not self._closed.wait(STREAM_S):
            with self._news:
                if self._goal is None:
                    continue
                try:
                    self._tick()
                except Exception as error:  # whoever waits for the arm is told
                    self._fail(error)
                self._news.notify_all()

    def _tick(self) -> None:
        reading, now_s = self._driver.read(), time.monotonic()
        if reading.error:
            raise ConnectionError(f"the robot has stopped by itself: {reading.error}")
        if self._newest is None or reading.stamp_s > self._newest.stamp_s:
            self._newest, self._heard_s = reading, now_s
        elif now_s - self._heard_s > SILENT_S:
            raise ConnectionError(f"the robot has sent no state for {SILENT_S:g} s; look at its network and its brakes")
        self.watchdog.check()
        if self._goal is not None:
            self._driver.refer(self._goal, reading)

    def _hold(self) -> None:
        if self._newest is not None and self._goal is not None:
            self._goal = vector_of(self._newest.pose)

    def _end(self, reason: str) -> None:
        self._fail(TimeoutError(reason))

    def _fail(self, error: Exception) -> None:
        # Their frames would keep the library's robot alive.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        # It is the first error that counts, and the robot stops by itself when it hears nothing.
        with contextlib.suppress(Exception):
            self._halt(error)

    def _halt(self, refusal: Exception) -> None:
        """End the motion; until the next reset every command raises the reason. Called under the lock."""
        self._refusal, self._goal = refusal, None
        self.watchdog.rest()
        if self._open:
            self._driver.halt()

    def _look(self) -> Reading:
        """The newest state: the thread's while the arm moves. Called under the lock."""
        if self._goal is not None and self._newest is not None:
            return self._newest
        if isinstance(self._refusal, ConnectionError):
            raise self._refusal
        return self._driver.read()

    def _await(self, done: Callable[[Reading], bool]) -> Reading:
        """The first state from now on for which `done` says so; raises what ended the motion before."""
        with self._news:
            while True:
                self._require_running()
                if self._newest is not None and done(self._newest):
                    return self._newest
                self._news.wait(SILENT_S)

    def _follow(self, route: Route, elapsed_s: float) -> bool:
        self._head_for(route.at(min(elapsed_s, route.duration_s)))
        return elapsed_s >= route.duration_s

    def _settle(self, goal: np.ndarray) -> None:
        """Wait until the arm is at rest at the goal `(7,)`."""
        arrival = Arrival(goal)

        def arrived(reading: Reading) -> bool:
            self._head_for(goal)
            return arrival.at_rest(reading)

        self._await(arrived)

    def _mean_wrench(self) -> np.ndarray:
        """`(6,)` N, N·m over the next readings, not tared."""
        wrenches: dict[float, np.ndarray] = {}

        def enough(reading: Reading) -> bool:
            wrenches[reading.stamp_s] = about_mount(reading.wrench)
            return len(wrenches) >= TARE_READINGS

        self._await(enough)
        return np.mean(list(wrenches.values()), axis=0)

    def _change_mode(self, mode: Mode) -> None:
        if mode != self._mode:
            self._driver.change_gains(GAINS[mode])
            self._mode = mode

    def _head_for(self, goal: np.ndarray) -> None:
        self._goal = goal
        self.watchdog.feed()

    def _require_running(self) -> None:
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)

    def _is_alive(self) -> bool:
        try:
            self._driver.read()
        except ConnectionError:
            return False
        return True

    def _let_go(self) -> None:
        if self._open:
            self._open = False
            self._driver.close()
