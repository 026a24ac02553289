"""The arm under the safety layer: one command goes out when it is due, and what it came to is read back."""

from collections.abc import Sequence
from typing import Any

from robot_env.arm import Arm, ArmCommand, ArmState
from robot_env.pace import Pace
from robot_env.pose import displacement
from robot_env.safety import SafetyLayer


class Drive:
    """Sends commands from where the arm was measured last. All of it raises `Violation` with the reason.

    Attributes:
        safety: checks every command and every reading.
        pace: when commands go out; without one, as fast as the arm lets time pass.
        state: what was measured last, from `begin` on; `pose` is its pose `(7,)`, normalized.
        gripper: the opening that is commanded, 0 to 1.
    """

    def __init__(self, arm: Arm, safety: SafetyLayer, pace: Pace | None) -> None:
        self._arm, self.safety, self.pace = arm, safety, pace
        self.state: ArmState
        self.pose: list[float] = []
        self.gripper = 0.0

    def begin(self) -> None:
        """Reads where a reset has brought the arm, with the gripper closed."""
        state = self._arm.read()
        self.pose, self.gripper, self.state = self.safety.check_state(state, "precise"), 0.0, state
        self.restart()

    def restart(self) -> None:
        """The next command may go out at once."""
        if self.pace is not None:
            self.pace.restart()

    def send(self, wanted: Sequence[float], info: dict[str, Any]) -> tuple[float, ...]:
        """One control period towards what may be commanded nearest to the wanted pose; the action `(6,)` that was sent.

        `info` takes `late_s` and `step_s` where there is a pace, see `RobotEnv`.
        """
        command = ArmCommand(self.safety.limit(wanted, self.pose), self.gripper, "compliant")
        self.safety.check_command(command, self.pose)
        if self.pace is not None:
            late_s = info.get("late_s", 0.0)
            info |= self.pace.beat()
            info["late_s"] = max(info["late_s"], late_s)  # of a command that holds the arm, too
        sent = self._arm.send(command)
        self.safety.check_command(sent, self.pose)
        return tuple(displacement(self.pose, sent.tcp_pose.tolist(), self.safety.scale))

    def measure(self) -> None:
        """Reads what a command came to."""
        state = self._arm.read()
        pose = self.safety.check_state(state, "compliant", self.state.stamp_s)
        self.safety.nearest(pose)  # an arm that has left the box is stopped now, not at the next step
        self.pose, self.state = pose, state

    def hold(self, pose: Sequence[float], info: dict[str, Any]) -> None:
        """One control period in which the arm stays at a pose; `info["held_steps"]` counts them."""
        self.send(pose, info)
        self.measure()
        info["held_steps"] = info.get("held_steps", 0) + 1
