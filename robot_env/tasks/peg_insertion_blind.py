"""`peg_insertion_image` without its cameras: what proprioception alone is worth there."""

from dataclasses import replace

from robot_env.tasks import peg_insertion_image

TASK = replace(peg_insertion_image.TASK, name="peg_insertion_blind", cameras=())
