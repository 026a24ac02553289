"""What the twin's tests share: an arm, poses relative to the target, and the way an action becomes a command."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmCommand
from robot_env.tasks import find_task
from sim.scripted import ScriptedInsertion, ScriptQuality
from sim.twin_arm import TwinArm

TASK = find_task("peg_insertion")
STILL_TASK = replace(TASK, scene=replace(TASK.scene, hidden_offset=(0.0, 0.0)))


@dataclass(frozen=True)
class Bench:
    """An arm, and short ways to move it."""

    arm: TwinArm

    def pose(self, shift_m=(0.0, 0.0, 0.0), turn_rad=(0.0, 0.0, 0.0)) -> np.ndarray:
        """The target moved and turned (Euler xyz) along base axes, `(7,)`."""
        target = np.array(self.arm.task.target)
        turned = Rotation.from_euler("xyz", turn_rad) * Rotation.from_euler("xyz", target[3:])
        return np.concatenate([target[:3] + np.array(shift_m), turned.as_quat()])

    def reset(self, shift_m=(0.0, 0.0, 0.08), turn_rad=(0.0, 0.0, 0.0), seed: int = 0) -> None:
        self.arm.reset(self.pose(shift_m, turn_rad)[None], np.random.default_rng(seed))

    def send(self, pose: np.ndarray, steps: int = 1, mode: str = "compliant") -> None:
        for _ in range(steps):
            self.arm.send(ArmCommand(pose, mode=mode))

    def act(self, action: np.ndarray) -> None:
        """One action in the TCP's frame, relative to the measured pose, held inside the task's box."""
        task, pose = self.arm.task, self.arm.read().tcp_pose
        tcp, target = Rotation.from_quat(pose[3:]), self.pose()
        goal = Rotation.from_quat(target[3:])
        move, turn = tcp.apply(action[:3]) * task.action_scale[0], tcp.apply(action[3:]) * task.action_scale[1]
        shift = np.clip(pose[:3] + move - target[:3], task.low[:3], task.high[:3])
        euler = (Rotation.from_euler("xyz", turn) * tcp * goal.inv()).as_euler("xyz")
        turned = Rotation.from_euler("xyz", np.clip(euler, task.low[3:], task.high[3:])) * goal
        self.send(np.concatenate([target[:3] + shift, turned.as_quat()]))

    def inserted(self) -> bool:
        pose, target, (near_m, near_rad) = self.arm.read().tcp_pose, self.pose(), self.arm.task.success_tolerance
        turn = Rotation.from_quat(pose[3:]) * Rotation.from_quat(target[3:]).inv()
        return bool(abs(pose[2] - target[2]) < near_m and turn.magnitude() < near_rad)

    def height_m(self) -> float:
        """Of the TCP above the target."""
        return float(self.arm.read().tcp_pose[2] - self.arm.task.target[2])

    def episode(self, quality: ScriptQuality, seed: int) -> bool:
        """Whether the script of that quality inserts the peg, from a random start."""
        task, rng = self.arm.task, np.random.default_rng(seed)
        start = np.array(task.reset) + rng.uniform(-1.0, 1.0, 6) * np.array(task.reset_range)
        self.arm.reset(self.pose(start[:3], start[3:])[None], rng)
        script = ScriptedInsertion(task, self.arm.hole_pose, quality, rng)
        for _ in range(task.max_steps):
            self.act(script.act(self.arm.read()))
            if self.inserted():
                return True
        return False


@pytest.fixture
def make_bench():
    """Builds a `Bench` and closes its arm afterwards. With `still=True` the hole is where the task says."""
    arms = []

    def make(task=TASK, still: bool = False, **options) -> Bench:
        arms.append(TwinArm(STILL_TASK if still else task, **options))
        return Bench(arms[-1])

    yield make
    for arm in arms:
        arm.close()


@pytest.fixture
def bench(make_bench) -> Bench:
    """The task as it is."""
    return make_bench()
