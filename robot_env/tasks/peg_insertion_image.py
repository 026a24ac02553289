"""Peg insertion by sight: the box lies somewhere else in each episode, and only the wrist cameras see where."""

from dataclasses import replace

from robot_env.tasks import peg_insertion
from robot_env.tasks.peg_insertion import PegScene

TASK = replace(
    peg_insertion.TASK,
    name="peg_insertion_image",
    # Two centimetres each way: pressing about for the hole, as with the two millimetres of `peg_insertion`, does not find it.
    scene=PegScene(clearance_m=0.001, chamfer_m=0.003, hidden_offset=(0.020, 0.03)),
    cameras=("wrist_1", "wrist_2"),
    camera_fault="hold",
)
