"""What the policy sees: the state vector, the pictures, and their spaces.

Order of the observed `state (19,)`, float32:

| slice | what | unit, frame |
|---|---|---|
| 0 | gripper opening | 0 closed to 1 open |
| 1:4 | force of the environment on the tool | N, tool frame |
| 4:10 | pose: xyz and Euler xyz | m and rad, relative to the target or to the episode's reset pose, see below |
| 10:13 | torque on the tool | N·m, tool frame |
| 13:19 | velocity: linear, angular | m/s and rad/s, end-effector frame |

With `task.relative_to == "target"` the pose is the offset from the nominal target (metres along base axes, Euler xyz of
`R · R_target^-1`: the coordinates of the box); with `"reset"` it is `T_reset^-1 · T` of the pose measured after reset.
"""

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from robot_env.arm import ArmState
from robot_env.pose import quat_inverse, rotate
from robot_env.safety import PLAUSIBLE
from robot_env.tasks import Task

Observation = dict[str, np.ndarray]

IMAGE_SHAPE = (128, 128, 3)


def make_spaces(task: Task) -> tuple[spaces.Dict, spaces.Box]:
    """Observation and action space of a task; needs no arm.

    The bounds of the state are those beyond which the safety layer takes a reading for a fault.
    """
    wrench, velocity = [PLAUSIBLE["wrench"]] * 3, [PLAUSIBLE["velocity"] * 2.0] * 6
    pose = [PLAUSIBLE["position"] * 4.0] * 3 + [np.pi + 1e-6] * 3
    high = np.array([1.0, *wrench, *pose, *wrench, *velocity], dtype=np.float32)
    low = -high
    low[0] = 0.0
    observed: dict[str, spaces.Space] = {"state": spaces.Box(low, high, dtype=np.float32)}
    observed |= {name: spaces.Box(0, 255, IMAGE_SHAPE, np.uint8) for name in task.cameras}
    return spaces.Dict(observed), spaces.Box(-1.0, 1.0, (task.action_dim,), np.float32)


def state_vector(state: ArmState, pose: Sequence[float], relative: Sequence[float]) -> np.ndarray:
    """The observed state `(19,)` float32 of a checked reading.

    Args:
        pose: `(7,)`, the reading's pose, normalized.
        relative: `(6,)`, the pose as the policy sees it.
    """
    back, velocity, wrench = quat_inverse(pose[3:]), state.tcp_velocity.tolist(), state.wrench.tolist()
    moving = (*rotate(back, velocity[:3]), *rotate(back, velocity[3:]))
    return np.array((state.gripper, *wrench[:3], *relative, *wrench[3:], *moving), dtype=np.float32)
