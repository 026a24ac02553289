"""`SerlArm`: an arm behind SERL's HTTP robot server. Nothing has to be changed on the server."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from robot_env.arm import GAINS, ArmCommand, ArmState, Camera, Mode
from robot_env.faults import Violation
from robot_env.pace import Pace
from robot_env.serl_http import SerlServer
from robot_env.serl_state import ServerState, parameters
from robot_env.tasks import Task
from robot_env.watchdog import HOLD_AFTER_S, STOP_AFTER_S, Watchdog

TIMEOUT_S = 1.0
SETTLE = 0.6  # of a period, from a reference to the reading of what came of it; the rest is for reading and the policy
FOLLOW_STEPS, REST_STEPS = 20, 30  # control periods for each pose of a reset, and to come to rest at its end
RELAX_S = 0.5  # after a stop, until what the arm was pressed against has given way
NEAR_M, NEAR_RAD = 0.01, 0.05  # of the end of a reset: friction keeps an arm without an integral term a few mm off


class SerlArm:
    """SERL's server as an arm.

    One connection, kept open; every call has a time-out. A server that gives no stamps is stamped with this machine's clock,
    and a state that repeats to the last bit keeps its stamp: real sensors never do that, so the safety layer finds it stale.

    `connect` is the only place that clears errors and starts the impedance controller, and only after this object has stopped
    the arm: that is, once an operator has acknowledged it.

    Args:
        task: its rate, gripper and limit on the wrench hold here too.
        url: of the server.
        simulated: refuse any server that does not say that it is a twin.
        timeout_s: of each call, but for those that take SERL's server longer.
        hold_after_s, stop_after_s: deadlines of the watchdog.
        clock, sleep: seconds, never going back, and what lets them pass.
    """

    def __init__(
        self,
        task: Task,
        url: str = "http://127.0.0.1:5000",
        simulated: bool = False,
        timeout_s: float = TIMEOUT_S,
        hold_after_s: float = HOLD_AFTER_S,
        stop_after_s: float = STOP_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.task, self._server, self._simulated = task, SerlServer(url, timeout_s), simulated
        self._clock, self._sleep = clock, sleep
        self.watchdog = Watchdog(self._hold, self.stop, hold_after_s, stop_after_s, clock)
        self._lock, self._pace = self.watchdog.lock, Pace(task.hz, clock, sleep)
        self._refusal: str | None = "the arm has not been connected yet"
        self._stopped, self._stop_arrived = False, False
        self._tare, self._mode, self._gripper = np.zeros(6), None, 0.0
        self._sensors, self._stamp_s = b"", 0.0
        self._twin = self._lockstep = False

    def connect(self) -> None:
        """Asks for a state; after a stop, clears errors and starts impedance. Raises `ConnectionError`, `TimeoutError`."""
        with self._lock:
            state = self._server.state()
            self._twin, self._lockstep = state.twin, state.lockstep
            if self._simulated and not state.twin:
                raise ConnectionError(f"{self._server.url} does not say that it is a twin; leave ',simulated' out")
            if self._stopped:
                if not self._stop_arrived:
                    self._server.post("stopimp")  # or a second controller would be started beside the first
                self._server.post("clearerr")
                self._server.post("startimp")
                self._sleep(0.0 if self._lockstep else RELAX_S)
            if self._refusal is not None:
                self._refusal = "the arm has not been reset since it was connected"
            self.watchdog.clear()
            self._stopped, self._mode = False, None
            self._gripper = float(state.gripper >= 0.5)
        if not self._lockstep:  # a twin whose time stands still cannot run away
            self.watchdog.open()

    def read(self) -> ArmState:
        """The server's state now. Raises `Violation` where the robot says that it has stopped itself."""
        with self._lock:
            state = self._server.state()
            if state.fault is not None:
                raise Violation(f"the robot has stopped itself: {state.fault}")
            return ArmState(
                tcp_pose=state.pose,
                tcp_velocity=state.velocity,
                wrench=state.wrench - self._tare,
                joints=state.joints,
                gripper=min(max(state.gripper, 0.0), 1.0),
                stamp_s=self._stamp(state),
            )

    def send(self, command: ArmCommand) -> ArmCommand:
        """One reference, a period after the last one; returns when what came of it can be read.

        Raises `ConnectionError` once stopped, `TimeoutError` where the watchdog stopped it.
        """
        self._send(command)
        if not self._lockstep:
            self._sleep(SETTLE / self.task.hz)
        return ArmCommand(command.tcp_pose.copy(), float(command.gripper >= 0.5), command.mode)

    def reset(self, path: np.ndarray, rng: np.random.Generator) -> None:
        """Follows `path (n, 7)` in precise mode, each pose only once the arm is within a step of it; rests, and tares.

        A twin draws a new scene meanwhile, from a seed that `rng` gives.

        Raises:
            TimeoutError: the arm does not follow, or does not come to rest.
            Violation: the wrench is above the task's limit, or the robot has stopped itself.
        """
        self._require_ready(reset=True)
        self._refusal = "the last reset failed"
        self._pace.restart()
        with self._lock:
            self._stamp(self._server.state())
        scale_m, scale_rad = self.task.action_scale
        for pose in path:
            self._follow(pose, FOLLOW_STEPS, lambda state, pose=pose: state.near(pose, scale_m, scale_rad))
        end = path[-1]
        self._follow(end, REST_STEPS, lambda state: state.near(end, NEAR_M, NEAR_RAD) and state.at_rest)
        with self._lock:
            if self._twin:
                self._server.post("new_scene", {"seed": int(rng.integers(2**31))})
            self._set_gains("compliant")
            self._tare = self._server.state().wrench
            self._refusal = None
        self.rest()

    def rest(self) -> None:
        """The watchdogs rest until the next reference."""
        with self._lock:
            self.watchdog.rest()
            self._pace.restart()
            if self._twin:
                try:
                    self._server.post("rest")
                except OSError:
                    return  # the next call meets the same, and then it is a fault

    def stop(self, reason: str) -> str | None:
        """The present pose as the reference, then impedance off. Returns why it may not have arrived, None where it has."""
        with self._lock:
            self._stopped, self._refusal = True, f"the arm was stopped ({reason})"
            self.watchdog.rest()
            doubt = None
            try:
                state = self._server.state()
                if state.fault is None:
                    self._server.post("pose", {"arr": state.pose.tolist()})
            except OSError as error:
                doubt = str(error)
            try:
                self._server.post("stopimp")
                self._stop_arrived = True
            except OSError as error:
                self._stop_arrived, doubt = False, str(error)
                self._refusal += f", and that may not have arrived: {doubt}"
            return doubt

    def close(self) -> None:
        """Holds an arm that is under way where it is, and leaves. Safe to call twice."""
        self.watchdog.close()
        with self._lock:
            if self._refusal is None:
                self._refusal = "the arm was closed"
                try:
                    self._hold()
                    self.rest()
                except OSError:
                    pass  # a server that is gone: its own watchdog holds the arm
            self._server.close()

    @property
    def cameras(self) -> Mapping[str, Camera]:
        return {}

    def _require_ready(self, reset: bool = False) -> None:
        self.watchdog.require_alive()
        if self._refusal is not None and not (reset and not self._stopped):
            raise ConnectionError(f"command refused: {self._refusal}; connect it, and reset it")

    def _send(self, command: ArmCommand) -> None:
        if not self._lockstep:
            self._pace.wait()
        with self._lock:
            self._require_ready()
            if command.mode != self._mode:
                self._set_gains(command.mode)
            opening = float(command.gripper >= 0.5)
            if self.task.gripper and opening != self._gripper:
                self._server.post("open_gripper" if opening else "close_gripper")
                self._gripper = opening
            self._refer(command.tcp_pose)

    def _refer(self, pose: np.ndarray) -> None:
        self.watchdog.feed()
        self._server.post("pose", {"arr": [float(value) for value in pose]})

    def _follow(self, pose: np.ndarray, steps: int, arrived: Callable[[ServerState], bool]) -> None:
        """Sends one pose of a reset until the arm has arrived."""
        limit_n, limit_nm = self.task.wrench_limit["precise"]
        for _ in range(steps):
            if not self._lockstep:
                self._pace.wait()
            with self._lock:
                self.watchdog.require_alive()
                if self._mode != "precise":
                    self._set_gains("precise")
                self._refer(pose)
            if not self._lockstep:
                self._sleep(SETTLE / self.task.hz)
            with self._lock:
                state, before_s = self._server.state(), self._stamp_s
                if state.fault is not None:
                    raise Violation(f"the robot has stopped itself: {state.fault}")
                if self._stamp(state) <= before_s:
                    raise ConnectionError(f"{self._server.url}: its state is frozen; look at the server")
            wrench = state.wrench - self._tare
            force, torque = np.linalg.norm(wrench[:3]), np.linalg.norm(wrench[3:])
            if force > limit_n or torque > limit_nm:
                raise Violation(f"wrench {force:.1f} N, {torque:.2f} N·m on the way of a reset is above the limit")
            if arrived(state):
                return
        off_m = float(np.linalg.norm(state.pose[:3] - pose[:3]))
        raise TimeoutError(
            f"the arm is {1000 * off_m:.1f} mm from a pose of its reset after {steps / self.task.hz:g} s, or not at rest;"
            " see what is in its way, and whether impedance control is on"
        )

    def _hold(self) -> None:
        self._server.post("pose", {"arr": self._server.state().pose.tolist()})

    def _set_gains(self, mode: Mode) -> None:
        self._server.post("update_param", parameters(GAINS[mode]))
        self._mode = mode

    def _stamp(self, state: ServerState) -> float:
        if state.sensors != self._sensors or state.stamp_s is not None:
            self._sensors = state.sensors
            self._stamp_s = self._clock() if state.stamp_s is None else float(state.stamp_s)
        return self._stamp_s
