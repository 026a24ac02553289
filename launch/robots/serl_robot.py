"""A twin behind SERL's robot server: impedance control on and off, faults that latch, and a watchdog of its own."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_env.arm import GAINS, Gains
from robot_env.serl_state import AXES, parameters
from robot_env.tasks import Task
from robot_env.watchdog import HOLD_AFTER_S, STOP_AFTER_S, Watchdog
from sim.robot_twin import RobotTwin

TICK_S = 0.02  # of a paced twin: the controller's reference changes so often, and a tick is computed in a millisecond


class Refused(Exception):
    """The robot does not do that now; its text says why, one sentence."""


class SerlRobot:
    """What the routes of the server act on. One thread at a time: every call holds `lock`.

    Time passes with `advance`. Not paced, each reference lets one control period pass, and time stands still in between, so
    the watchdog, which counts the robot's own time, never finds anything. Paced, somebody calls `advance` on the wall clock.

    Args:
        task: what the twin simulates; its limit on force is that of the reflex.
        paced: whether time passes by itself.
        hold_after_s, stop_after_s: without a reference, until the arm is held and until it is stopped.
        seed: of the scenes that `/jointreset` draws.

    Attributes:
        fault: why the arm was stopped; None while nothing is wrong.
    """

    def __init__(
        self,
        task: Task,
        paced: bool = False,
        hold_after_s: float = HOLD_AFTER_S,
        stop_after_s: float = STOP_AFTER_S,
        seed: int = 0,
    ) -> None:
        self.twin, self.paced, self.period_s = RobotTwin(task, seed), paced, 1.0 / task.hz
        self._watchdog = Watchdog(self._hold, self._stop, hold_after_s, stop_after_s, lambda: self.twin.time_s)
        self.lock = self._watchdog.lock
        self.fault: str | None = None
        self._impedance = True
        self._limit_n = task.wrench_limit["compliant"][0]
        self._forces_n: deque[float] = deque(maxlen=round(self.period_s / TICK_S) if paced else 1)
        self._parameters = parameters(GAINS["compliant"])

    def state(self) -> dict[str, Any]:
        """All of `/getstate`: SERL's fields, and four that a lab's server does not have, see `docs/franka-protocols.md`."""
        with self.lock:
            raw = self.twin.raw()
            numbers = {
                "pose": raw.pose,
                "vel": raw.velocity,
                "force": raw.wrench[:3],
                "torque": raw.wrench[3:],
                "q": raw.joints,
                "dq": raw.joint_velocity,
                "jacobian": raw.jacobian,
            }
            extra = {"stamp_s": raw.stamp_s, "fault": self.fault, "twin": True, "lockstep": not self.paced}
            return {**{name: value.tolist() for name, value in numbers.items()}, "gripper_pos": raw.gripper, **extra}

    def move(self, pose: np.ndarray) -> None:
        """A reference `(7,)`. Raises `Refused` where the arm is stopped."""
        with self.lock:
            self._require_control()
            self.twin.refer(pose)
            self._watchdog.feed()
            if not self.paced:
                self.advance()

    def advance(self) -> None:
        """Lets one tick pass, or one control period where the robot is not paced; then looks after what came of it."""
        with self.lock:
            self.twin.tick(TICK_S if self.paced else self.period_s)
            self._forces_n.append(self.twin.contact_n)
            force_n = sum(self._forces_n) / len(self._forces_n)
            if force_n > self._limit_n and self.fault is None:
                self._latch(f"reflex: a contact force of {force_n:.1f} N is above {self._limit_n:g} N")
            self._watchdog.check()

    def rest(self) -> None:
        """No reference comes for a while, on purpose."""
        with self.lock:
            self._watchdog.rest()

    def start_impedance(self) -> None:
        """Follows references again, from where the arm is. Raises `Refused` while a fault is latched."""
        with self.lock:
            if self.fault is not None:
                raise Refused(f"the arm was stopped: {self.fault}; look at it, then /clearerr")
            self.twin.refer(self.twin.pose)
            self._impedance = True

    def stop_impedance(self) -> None:
        """Holds the arm where it is, and follows no reference."""
        with self.lock:
            self._watchdog.rest()
            self._hold()
            self._impedance = False

    def clear_errors(self) -> None:
        """Forgets the latched fault. The arm stays where it is."""
        with self.lock:
            self.fault = None
            self._watchdog.clear()
            self._forces_n.clear()
            self._hold()

    def joint_reset(self) -> None:
        """Places the arm at its ready pose, at once, and draws a new scene. Raises `Refused` where the arm is stopped."""
        with self.lock:
            self._require_control()
            self.twin.place_home()
            self._watchdog.rest()
            self._forces_n.clear()

    def new_scene(self, seed: int) -> None:
        """Moves what the arm stands in front of. Raises `Refused` while the peg is in the hole."""
        with self.lock:
            try:
                self.twin.new_scene(np.random.default_rng(seed))
            except ValueError as error:
                raise Refused(str(error)) from error

    def update(self, changes: Mapping[str, float]) -> None:
        """Changes some of the impedance controller's parameters, named as SERL does."""
        with self.lock:
            now = self._parameters = {**self._parameters, **changes}
            gains = Gains(
                now["translational_stiffness"],
                now["rotational_stiffness"],
                now["translational_damping"],
                now["rotational_damping"],
                (0.0, 0.0, 0.0),
                0.0,
            )
            clips = [now[f"{kind}_clip_{axis}"] for kind in ("translational", "rotational") for axis in AXES]
            high, low = [*clips[0:3], *clips[6:9]], [*clips[3:6], *clips[9:12]]
            self.twin.set_controller(gains, np.array(low), np.array(high))

    def set_load(self, mass_kg: float, centre_m: np.ndarray) -> None:
        """What the wrench is to be freed of."""
        with self.lock:
            self.twin.set_load(mass_kg, centre_m)

    def grip(self, opening: float) -> None:
        """Closes the gripper, 0. Raises `Refused` for anything else: the twin's peg is fixed in it."""
        if opening > 0.0:
            raise Refused("the peg is fixed in the twin's gripper, which stays closed")

    def _require_control(self) -> None:
        if self.fault is not None:
            raise Refused(f"the arm was stopped: {self.fault}; look at it, then /clearerr and /startimp")
        if not self._impedance:
            raise Refused("the impedance controller is off; /startimp first")

    def _hold(self) -> None:
        self.twin.refer(self.twin.pose)

    def _stop(self, reason: str) -> None:
        self._latch(reason)
        self._impedance = False

    def _latch(self, reason: str) -> None:
        self.fault = reason
        self._watchdog.rest()
        self._hold()
