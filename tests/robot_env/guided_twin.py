"""A served Franka whose guiding buttons are held from SIGUSR1 on: a hand then leads its joints, slowly."""

import signal
import threading
from multiprocessing.connection import Connection

import numpy as np

from launch.robots.fci import FciTwin
from launch.robots.fci_robot import FciRobot
from robot_env.tasks import Task
from sim.torque_arm import TorqueArm
from tests.robot_env.served_twin import ServedTwin, serve_robot

STEP_RAD = 0.0005  # a millisecond: half a radian a second
LED_RAD = np.array([0.3, 0.1, 0.0, 0.2, 0.0, 0.1, 0.2])


class GuidedRobot(FciRobot):
    """Led `LED_RAD` away from where it is, once `held` is set."""

    def __init__(self, arm: TorqueArm, twin: FciTwin) -> None:
        super().__init__(arm, twin.version)
        self.held, self._to = threading.Event(), arm.q + LED_RAD

    def advance(self) -> bytes:
        if self.held.is_set():
            self.guide(self._held + np.clip(self._to - self._held, -STEP_RAD, STEP_RAD))
        return super().advance()


def _serve(task: Task, twin: FciTwin, ready: Connection) -> None:
    robot = GuidedRobot(TorqueArm(task, twin.seed), twin)
    signal.signal(signal.SIGUSR1, lambda *_: robot.held.set())
    serve_robot(robot, twin, ready)


class GuidedTwin(ServedTwin):
    """See `ServedTwin`."""

    serve = staticmethod(_serve)
