"""A lab's SERL server, and a clock that the test moves: the twin without what only a twin's server says."""

import threading
from contextlib import contextmanager

from launch.robots.serl_robot import TICK_S, SerlRobot
from launch.robots.serving import served
from robot_env.serl import SerlArm
from robot_env.tasks import find_task

PEG = find_task("peg_insertion")
BUSY_S = 60.0  # a time-out that a machine under full load keeps
OURS = ("stamp_s", "fault", "twin", "lockstep")


class Clock:
    """Seconds that pass only in `sleep`; a paced robot's time passes with them."""

    def __init__(self, robot: SerlRobot | None = None) -> None:
        self.now_s, self._robot, self._left_s = 100.0, robot, 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now_s += seconds
            self._left_s += seconds
            while self._robot is not None and self._left_s >= TICK_S - 1e-9:
                self._left_s -= TICK_S
                self._robot.advance()


class LabRobot(SerlRobot):
    """Says only what SERL's own server says; its watchdog is so slow that it might not be there. `frozen` repeats a state."""

    def __init__(self) -> None:
        super().__init__(PEG, paced=True, hold_after_s=1e6, stop_after_s=1e6)
        self.frozen = None
        self.called = []

    def state(self):
        state = {name: value for name, value in super().state().items() if name not in OURS}
        return self.frozen or state

    def rest(self):
        self.called.append("rest")

    def new_scene(self, seed):
        self.called.append("new_scene")

    def joint_reset(self):
        self.called.append("joint_reset")


@contextmanager
def lab(robot=None, **options):
    """A lab's robot behind a real socket, its arm, and the clock of both."""
    robot = robot or LabRobot()
    clock = Clock(robot)
    robot.paced = False  # nobody else lets its time pass
    with served(robot) as url:
        robot.paced = True
        arm = SerlArm(PEG, url, timeout_s=BUSY_S, clock=clock, sleep=clock.sleep, **options)
        arm.watchdog.open = lambda: None  # whoever holds the clock looks after it
        yield robot, arm, clock
        arm.close()
