"""Peg insertion as WSRL published it for the real arm, with reset poses that lie in its box.

Target, box, action scales, time limit and discount are theirs. Their fixed reset poses were guided by hand and are askew by
up to 0.1 rad where their box leaves 0.01 rad of roll and pitch, so the arm was moved past the box. `preflight` refuses such
poses; `robot_env.starts` spreads as many as wanted over their range: 0.10 m above the target, 5 cm and 30 degrees about it.
"""

from math import pi

from robot_env.tasks import Task
from robot_env.tasks.peg_insertion import PegScene

TASK = Task(
    name="peg_insertion_franka",
    target=(0.6668, -0.2034, 0.1106, 3.1133, -0.0029, 1.5887),
    low=(-0.05, -0.05, 0.0, -0.01, -0.01, -pi / 6),
    high=(0.05, 0.05, 0.10, 0.01, 0.01, pi / 6),
    reset=(0.0, 0.0, 0.10, 0.0, 0.0, 0.0),
    reset_range=(0.05, 0.05, 0.0, 0.0, 0.0, pi / 6),
    scene=PegScene(),
    max_steps=500,
    relative_to="reset",
    cameras=("wrist_1", "wrist_2"),
    camera_fault="hold",
)
