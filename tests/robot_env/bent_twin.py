"""A served Franka whose elbow is a radian aside at first, as far as resets once let it wander."""

from multiprocessing.connection import Connection

import mujoco

from launch.robots.fci import FciTwin
from launch.robots.fci_robot import FciRobot
from robot_env.tasks import Task
from sim.torque_arm import TorqueArm
from tests.robot_env.served_twin import ServedTwin, serve_robot

BENT_RAD = [1.155, 0.308, -1.140, -2.211, 0.381, 2.307, 0.877]  # the tool is at a start pose of the peg


def _serve(task: Task, twin: FciTwin, ready: Connection) -> None:
    arm = TorqueArm(task, twin.seed)
    arm.q[:] = BENT_RAD
    mujoco.mj_forward(arm.model, arm.data)
    serve_robot(FciRobot(arm, twin.version), twin, ready)


class BentTwin(ServedTwin):
    """See `ServedTwin`."""

    serve = staticmethod(_serve)
