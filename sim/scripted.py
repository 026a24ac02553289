"""A scripted expert for peg insertion, and the ways in which it can be made worse: the source of offline data."""

from dataclasses import dataclass, fields

import numpy as np
from scipy.spatial.transform import Rotation

from robot_env.arm import ArmState
from robot_env.tasks import Task

HOVER_M = 0.006  # clearance kept between tip and rim until the peg is aligned
ALIGNED_M, ALIGNED_RAD = 0.0004, 0.02  # how well aligned the script wants to be before it goes down
LOST = 2.5  # times that: further off on its way down, it goes up and starts again
PATIENCE = 4  # steps it presses on the rim without getting in before it goes up and starts again
SHAKING = 50.0  # a noisy hand aligns less well: tolerances, push and patience grow by this, times the noise
SINK_M = 0.003  # per step on the way down to the rim: slow, because moving fast along one axis disturbs the others
INSIDE_M = 0.002  # deeper than this below the rim the walls guide the peg and alignment no longer matters


@dataclass(frozen=True)
class ScriptQuality:
    """How good a demonstration is. The default is clean.

    Attributes:
        noise: standard deviation of Gaussian noise on every action, of full scale.
        bias_m: where the script believes the hole to be is wrong by up to this in x and y, fixed per episode.
        bias_rad: likewise about z.
        random_fraction: share of actions that are uniform noise instead.
        give_up_fraction: share of episodes that stop trying at a random step, and then hover about.
    """

    noise: float = 0.0
    bias_m: float = 0.0
    bias_rad: float = 0.0
    random_fraction: float = 0.0
    give_up_fraction: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value, limit = getattr(self, f.name), 1.0 if f.name.endswith("fraction") else np.inf
            if not (np.isfinite(value) and 0.0 <= value <= limit):
                raise ValueError(f"ScriptQuality.{f.name} is {value}; give a number from 0 to {limit:g}")


class ScriptedInsertion:
    """One episode's script: line up above the hole, then go down. Build a new one for each episode.

    Args:
        task: gives the action scales, the time limit and the hole's depth.
        hole_pose: `(7,)` the TCP pose at full insertion, as it really is (`TwinArm.hole_pose`).
        quality: how much worse than perfect.
        rng: all the script's randomness.
    """

    def __init__(self, task: Task, hole_pose: np.ndarray, quality: ScriptQuality, rng: np.random.Generator) -> None:
        self._task, self._quality, self._rng = task, quality, rng
        bias = rng.uniform(-1.0, 1.0, 3) * [quality.bias_m, quality.bias_m, quality.bias_rad]
        self._goal_m = hole_pose[:3] + np.array([bias[0], bias[1], 0.0])
        self._goal_turn = Rotation.from_euler("z", bias[2]) * Rotation.from_quat(hole_pose[3:])
        gives_up = rng.uniform() < quality.give_up_fraction
        self._last_try = rng.integers(task.max_steps) if gives_up else task.max_steps
        self._step, self._sinking, self._pressing = 0, False, 0

    def act(self, state: ArmState) -> np.ndarray:
        """The action `(6,)` in [-1, 1]: a move and a turn along the axes of the TCP, in units of `action_scale`.

        Turns are Euler xyz increments along base axes once brought there: `R_xyz(R_tcp @ a[3:] * scale) R_tcp`.
        """
        rng, quality = self._rng, self._quality
        tcp = Rotation.from_quat(state.tcp_pose[3:])
        move, turn = self._way(state, tcp)
        if self._step >= self._last_try:
            move, turn = np.zeros(3), np.zeros(3)
        self._step += 1
        scale_m, scale_rad = self._task.action_scale
        action = np.concatenate([tcp.inv().apply(move) / scale_m, tcp.inv().apply(turn) / scale_rad])
        action = np.clip(action, -1.0, 1.0) + quality.noise * rng.standard_normal(6)
        if rng.uniform() < quality.random_fraction:
            action = rng.uniform(-1.0, 1.0, 6)
        return np.clip(action, -1.0, 1.0)

    def _way(self, state: ArmState, tcp: Rotation) -> tuple[np.ndarray, np.ndarray]:
        """The move (m) and the turn (Euler xyz, rad) still to go, base axes. Down is along the hole, which may lean."""
        down = self._goal_turn.apply([0.0, 0.0, 1.0])
        shift = self._goal_m - state.tcp_pose[:3]
        depth = float(shift @ down)
        across = shift - depth * down
        turn = (self._goal_turn * tcp.inv()).as_euler("xyz")
        height = depth - self._task.scene.hole_depth_m  # of the peg's tip above the rim
        off_m, off_rad = np.abs(across).max(), np.abs(turn).max()
        shaking = 1.0 + SHAKING * self._quality.noise
        slack = (LOST if self._sinking else 1.0) * shaking
        self._pressing = self._pressing + 1 if self._sinking and abs(height) < INSIDE_M else 0
        self._sinking = (
            off_m < ALIGNED_M * slack and off_rad < ALIGNED_RAD * slack and self._pressing < PATIENCE * shaking
        )
        if height > -INSIDE_M:
            depth = SINK_M * shaking if self._sinking else height - HOVER_M
        return across + depth * down, turn
