"""What counts as success: the task's geometry here; `launch` brings what needs more, such as a classifier of pictures."""

from math import hypot
from typing import Protocol

from robot_env.arm import ArmState
from robot_env.observation import Observation
from robot_env.safety import SafetyLayer
from robot_env.tasks import Task

LATERAL_M = 0.03  # a target's neighbourhood, across its axis: the hole may be off its nominal place


class Success(Protocol):
    """Judges the steps of an episode, in order."""

    def begin(self) -> None:
        """An episode begins: what was seen before counts for nothing."""
        ...

    def __call__(self, state: ArmState, obs: Observation) -> bool:
        """Whether the task is done after this step: `state` as measured, `obs` as the policy sees it."""
        ...


class GeometricSuccess:
    """Near the target in height and angle (`task.success_tolerance`) and within 3 cm across."""

    def __init__(self, task: Task) -> None:
        self._safety, self._near = SafetyLayer(task), task.success_tolerance

    def begin(self) -> None:
        """Nothing to forget."""

    def __call__(self, state: ArmState, obs: Observation) -> bool:
        height, angle = self._near
        x, y, z, *turn = self._safety.offset(state.tcp_pose.tolist())
        return abs(z) <= height and hypot(x, y) <= LATERAL_M and hypot(*turn) <= angle
